"""The commands ``basicsr`` and ``glsgn``."""
