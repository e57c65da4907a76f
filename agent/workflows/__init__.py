"""The commands as Python functions: evaluate, ablate, sweep, augment, replay, doctor."""
