"""Helpers of the tests: tiny models, scripted servers, sample data and paths."""
