"""Batches, losses, optimizer groups, the training loop, checkpoints and their monitor."""
