"""Loaded models that several roles share, and their checkpoint readers."""
