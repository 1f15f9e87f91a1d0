"""Files: images and their metadata, checkpoints, weights, and atomic writing."""
