"""The commands ``basicsr`` and ``glsgn``."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
