"""A page on one's own machine: restore a photograph in a browser."""
