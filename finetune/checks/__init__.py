"""Checks of trained tools that need research data or a GPU."""
