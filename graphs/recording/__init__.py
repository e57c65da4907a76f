"""Cassettes: record a run, replay it, and show the first divergence."""
