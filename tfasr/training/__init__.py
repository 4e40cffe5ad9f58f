"""Optimizer and schedule, loop, checkpoints, and the folder of a run."""
