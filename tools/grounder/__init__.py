"""The box of a referring expression."""
