"""Captions and descriptions of a picture."""
