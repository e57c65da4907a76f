"""Whether a mention is in the picture."""
