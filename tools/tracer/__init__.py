"""The point in the picture that caused a match."""
