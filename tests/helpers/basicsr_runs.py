"""The ``basicsr`` command within the process, and edits of its options."""

from glsgn_plugins.cli.basicsr import main


def set_in(*path, value):
    def edit(opt):
        for key in path[:-1]:
            opt = opt[key]
        opt[path[-1]] = value

    return edit


def run_here(project, monkeypatch, capsys, *argv):
    """The command's own main in this process: the same code, without starting Python anew."""
    monkeypatch.chdir(project)
    monkeypatch.setattr("sys.argv", ["basicsr"])
    code = main(list(argv))
    lines = capsys.readouterr().err.strip().splitlines()
    return code, lines[-1] if lines else ""
