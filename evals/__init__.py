"""Data sets, scoring and reports."""
