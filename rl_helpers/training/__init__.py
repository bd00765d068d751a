"""Training of many seeds in one batch, whatever the algorithm."""
