"""What a command does, as functions that Python can call: evaluate, ablate, sweep, augment, replay, doctor."""
