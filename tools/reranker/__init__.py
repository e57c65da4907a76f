"""Chooses the type of one uncertain mention among its candidates."""
