"""Network, losses and what trainers share, on a device whose values nobody can read."""

import warnings

import pytest
import torch
from device import META, WaitsError, watched
from torch._subclasses import FakeTensorMode

from glsgn_plugins import InputError
from glsgn_plugins.archs.glsgn import GLSGN, PAPER_GRIDS, glsgn_b, glsgn_s
from glsgn_plugins.compat import release
from glsgn_plugins.inference import restore, restoring
from glsgn_plugins.losses import GLSGNLoss, loss_terms
from glsgn_plugins.training import (
    FiniteWatch,
    compile_forward,
    compiler,
    to_device,
    uncompiled,
    update_averages,
    with_fused,
)

TORCH_2_1 = release(torch.__version__) < (2, 2)
TINY = {"widths": (4, 4, 4, 4)}
NETWORKS = {
    "plain": {},
    "paper": {"grids": PAPER_GRIDS, "patch_norm": "pooled"},
    "per patch": {"grids": PAPER_GRIDS, "patch_norm": "per_patch"},
    "alone": {"global_features": False, "local_features": False},
    "no attention": {"attention": False},
    "sum": {"fusion": "sum"},
    "replicate": {"padding_mode": "replicate"},
    "recomputed": {"checkpointing": True},
}
EVERY_LOSS = {
    "semantic_weight": 0.1,
    "frequency_weight": 0.1,
    "backbone": "lpips_alex",
    "weights": "random",
}


def on_meta(module):
    return module.to(META)


def network(options):
    with META:
        return GLSGN(**TINY, **options, return_pathways=True).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_forward_losses_and_backward_never_wait(options):
    if TORCH_2_1 and options.get("checkpointing"):
        pytest.skip("torch 2.1 can't checkpoint on the meta device")
    net = network(options)
    more = {} if options.get("attention", True) else {"attention_weight": 0}
    criterion = on_meta(GLSGNLoss(**EVERY_LOSS, **more))
    truth = torch.rand(2, 3, 128, 128, device=META)
    with watched() as watch:
        outputs = net(truth.contiguous(memory_format=torch.channels_last))
        terms = loss_terms(criterion, None, outputs, truth)
        torch.stack(list(terms.values())).sum().backward()
    assert not watch.host
    assert len(terms) >= 8
    lacking = [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert lacking == []


@pytest.mark.parametrize("criterion", ["l1", "charbonnier", "mse"])
@pytest.mark.parametrize("padded", [128, 100])
def test_each_criterion_never_waits(criterion, padded):
    net = network({})
    loss = GLSGNLoss(criterion=criterion)
    image = torch.rand(1, 3, padded, padded + 3, device=META)
    with watched() as watch:
        loss(net(image), image).backward()
    assert watch.operations > 500
    assert not watch.host


def test_every_read_is_caught():
    """The suite's own: what it says of steps is only worth something if this holds."""
    x = torch.rand(4, device=META)
    reads = (
        lambda: x.sum().item(),
        lambda: float(x[0]),
        lambda: bool(x.isfinite().all()),
        lambda: x.cpu(),
        lambda: x.tolist(),
        lambda: x.nonzero(),
        lambda: x[x > 0.5],
        lambda: x + torch.rand(4),
        lambda: torch.rand(4).to(META),
        lambda: repr(x),
        lambda: f"{x.sum()}",
        lambda: x.masked_select(x > 0),
        lambda: torch.nn.utils.clip_grad_norm_(_with_gradient(x), 1.0, error_if_nonfinite=True),
    )
    for read in reads:
        with watched(), pytest.raises((WaitsError, RuntimeError, NotImplementedError)):
            read()


def _with_gradient(x):
    parameter = torch.nn.Parameter(x.clone())
    parameter.grad = torch.ones_like(x)
    return [parameter]


def test_a_batch_of_eight_takes_no_more_operations_than_one():
    counts = {}
    for make in (glsgn_s, glsgn_b):
        with META:
            net = make().eval()
        for batch in (1, 8):
            with watched() as watch, torch.no_grad():
                net(torch.rand(batch, 3, 256, 256, device=META))
            counts[batch] = watch.operations
        assert counts[8] <= 1.1 * counts[1]


def test_a_step_has_as_many_operations_whatever_the_crop():
    counts = set()
    for size in (64, 512):
        net, truth = network({}), torch.rand(4, 3, size, size, device=META)
        with watched() as watch:
            GLSGNLoss()(net(truth), truth).backward()
        counts.add(watch.operations)
    assert len(counts) == 1


def test_average_optimiser_and_checks_take_few_operations():
    net = network({})
    weights, averages = list(net.parameters()), [p.data.clone() for p in net.parameters()]
    for parameter in weights:
        parameter.grad = torch.zeros_like(parameter)
    note = FiniteWatch()
    terms = {"l_pix": torch.zeros((), device=META), "l_g": torch.zeros((), device=META)}
    with watched() as watch:
        update_averages(averages, [p.data for p in weights], 0.999)
    assert watch.counts["_foreach_mul_"] == watch.counts["_foreach_add_"] == 1
    with watched() as watch:
        for step in (1, 2, 3):
            note.see(step, terms, torch.nn.utils.clip_grad_norm_(weights, 1.0))
    assert not watch.host
    with watched(), pytest.raises((WaitsError, RuntimeError)):
        note.read()


def test_the_first_spoilt_step_is_told():
    note = FiniteWatch()
    assert note.read() is None
    values = {1: 0.5, 2: float("nan"), 3: 0.25, 4: float("inf")}
    for step, value in values.items():
        note.see(step, {"l_pix": torch.tensor(value), "l_g": torch.tensor(1.0)}, torch.tensor(1.0))
        if step == 1:
            assert note.read() is None
    found = note.read()
    assert found.step == 2
    assert found.bad == ["l_pix"]
    assert found.values == "l_pix nan, l_g 1"

    note = FiniteWatch()
    for step in (7, 8):
        note.see(step, {"l_pix": torch.tensor(0.5)}, torch.tensor(float("inf")))
    assert note.read() == (7, {"l_pix": 0.5})
    assert note.read().bad == []

    # A loss that gains a term later, such as one that begins after a warm-up.
    note = FiniteWatch()
    note.see(1, {"l_pix": torch.tensor(float("nan"))}, torch.tensor(1.0))
    note.see(2, {"l_pix": torch.tensor(0.5), "l_g": torch.tensor(0.5)}, torch.tensor(1.0))
    assert note.read().step == 1


# --- CUDA, of whose tensors torch can make believe: what backward needs a card for is left out ----


@pytest.fixture
def cuda(monkeypatch):
    """Fake CUDA tensors, as of one card with 80 GiB."""
    if TORCH_2_1 and not torch.cuda.is_available():
        pytest.skip("torch 2.1 makes fake CUDA tensors where there is a driver only")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args, **options: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(restoring, "free_memory", lambda device: 80 * 2**30)
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield torch.device("cuda", 0)


def on(device, make, **options):
    with device:
        return make(**options).requires_grad_(False)


@pytest.mark.parametrize("amp", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_autocast_goes_through_every_network(cuda, amp, options):
    net = on(cuda, GLSGN, **TINY, **options, return_pathways=True)
    image = torch.rand(1, 3, 128, 128, device=cuda)
    with watched("cuda") as watch, torch.autocast("cuda", amp):
        outputs = net(image)
        with torch.autocast("cuda", enabled=False):
            more = {} if options.get("attention", True) else {"attention_weight": 0}
            terms = loss_terms(GLSGNLoss(**more), None, outputs, image)
    # Convolutions in half precision, losses in full.
    assert outputs.attentions[-1].dtype == amp
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert {tensor.device for tensor in outputs.pathways} == {cuda}
    assert not watch.host


@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
@pytest.mark.parametrize("tile", ["auto", "whole", "stream", 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_restores_on_cuda_what_lies_on_the_host(cuda, tile, amp, dtype):
    net = on(cuda, GLSGN, **TINY)
    image = torch.zeros(1, 3, 200, 333, dtype=dtype)
    said = []
    restored = restore(net, image, tile, amp=amp, memory=2**28, say=said.append)
    assert restored.shape == image.shape
    assert restored.dtype == torch.float32
    assert restored.device.type == "cpu"
    assert ("streamed" in said[0]) == (tile in ("stream", 64))


def test_tiles_of_any_network_on_cuda(cuda):
    net = on(cuda, torch.nn.Conv2d, in_channels=3, out_channels=3, kernel_size=3, padding=1)
    image = torch.zeros(1, 3, 200, 333)
    restored = restore(net, image, 128)
    assert restored.shape == image.shape
    assert restored.device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_batches_come_to_the_device_as_the_network_wants_them(cuda, dtype):
    moved = to_device(torch.zeros(2, 3, 64, 64, dtype=dtype), cuda)
    assert moved.device == cuda
    assert moved.dtype == torch.float32
    assert moved.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_the_scaled_step_of_a_fused_optimiser_is_never_read(cuda, kind):
    net = on(cuda, GLSGN, **TINY)
    weights = list(net.parameters())
    made = getattr(torch.optim, kind)
    optimizer = made(weights, **with_fused(made, {"lr": 1e-3}, "cuda"))
    scaler = torch.amp.GradScaler("cuda")
    for _ in range(2):  # the first makes the optimiser's state
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        with watched("cuda") as watch:
            scaler.scale(torch.zeros((), device=cuda))
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            scaler.step(optimizer)
            scaler.update()
    assert sum(count for name, count in watch.counts.items() if "fused" in name) == 1
    assert not watch.host


def test_what_is_asked_of_an_optimiser_decides():
    adamw = torch.optim.AdamW
    assert with_fused(adamw, {"lr": 1}, "cuda") == {"lr": 1, "fused": True}
    assert with_fused(adamw, {"lr": 1}, "cpu") == {"lr": 1}
    assert with_fused(adamw, {"foreach": True}, "cuda") == {"foreach": True}
    assert with_fused(torch.optim.RMSprop, {}, "cuda") == {}


# --- torch.compile --------------------------------------------------------------------------------


def test_compiles_to_one_graph_with_the_same_gradients():
    torch._dynamo.reset()
    net = GLSGN(**TINY, return_pathways=True)
    names = list(net.state_dict())
    image = torch.rand(1, 3, 64, 64)
    plain = _gradients(net, image)
    compile_forward(net, compiler("aot_eager", "train.compile"))
    torch._dynamo.utils.counters.clear()
    compiled = _gradients(net, image)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    for a, b in zip(plain, compiled):
        assert (a - b).abs().max() <= 1e-3 * a.abs().max() + 1e-7
    assert list(net.state_dict()) == names
    with uncompiled(net):  # another size, which isn't compiled for
        restore(net, torch.rand(1, 3, 40, 52))
        net.eval()(torch.rand(1, 3, 40, 52))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def _gradients(net, image):
    net.train().zero_grad()
    # Where an L1 distance is about 0, as it is before training, rounding decides on its sign.
    no = {f"{name}_weight": 0 for name in ("content", "attention", "intensity")}
    GLSGNLoss(criterion="mse", **no)(net(image), image.flip(3)).backward()
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


def test_an_unknown_backend_is_named():
    with pytest.raises(InputError, match=r"train\.compile: .*inductor"):
        compiler("fast", "train.compile")
    assert compiler(False, "train.compile") is None
    assert compiler(True, "train.compile") == "inductor"
