# make demo: train on real photographs, restore an unseen one, show it.  make test: the tests.
# make demo-mmagic: the demo through MMagic.  make docs: the docs site.
# All set up .venv first, from Python 3.11 and nothing else; later runs reuse it.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

PERIOD := .venv-period
PERIOD_PIP := $(PERIOD)/bin/python -m pip --disable-pip-version-check
PERIOD_READY := $(PERIOD)/.ready

.PHONY: demo demo-mmagic test lint docs test-period clean

demo: $(READY)
	$(BIN)/python -W ignore examples/demo.py

demo-mmagic: $(READY)
	$(BIN)/python -W ignore examples/demo_mmagic.py

# Two processes of one thread each, which take whole files in the order of tests/conftest.py.
PYTEST := -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
test: $(READY) lint
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The docs site, in site/; a warning or a link that leads nowhere stops it.
docs: $(READY)
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[docs]'
	$(BIN)/mkdocs build --strict

# BasicSR's build asks for torch, so torch comes first and BasicSR is built without isolation;
# else pip fetches a second torch for the build alone.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch torchvision numpy setuptools wheel hatchling editables
	$(PIP) install -q -c constraints.txt --no-build-isolation basicsr
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[basicsr,mmagic,dev]'
	$(BIN)/python -c "import yapf"  # writes its grammar; two first imports at once read half of it
	touch $@

# The stack of labs that never upgraded: torch 2.1 and mmcv with its ops, compiled (15 minutes).
test-period: $(PERIOD_READY)
	OMP_NUM_THREADS=1 $(PERIOD)/bin/python $(PYTEST)

$(PERIOD_READY): pyproject.toml constraints-period.txt
	$(PYTHON) -m venv $(PERIOD)
	$(PERIOD_PIP) install -q -c constraints-period.txt torch torchvision numpy setuptools wheel psutil ninja hatchling editables
	MMCV_WITH_OPS=1 $(PERIOD_PIP) install -q -c constraints-period.txt --no-build-isolation mmcv basicsr
	$(PERIOD_PIP) install -q -c constraints-period.txt --no-build-isolation mmagic mmengine diffusers transformers huggingface_hub albumentations pandas opencv-python openmim
	$(PERIOD_PIP) install -q -c constraints-period.txt --no-build-isolation -e '.[basicsr,dev]'
	$(PERIOD)/bin/python -c "import yapf"
	touch $@

clean:
	rm -rf site demo experiments results tb_logger work_dirs .pytest_cache .mypy_cache .ruff_cache
