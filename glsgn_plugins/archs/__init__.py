"""The network and its parts: plain torch."""
