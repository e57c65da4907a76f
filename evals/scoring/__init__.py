"""Scores, protocols, intervals and agreement."""
