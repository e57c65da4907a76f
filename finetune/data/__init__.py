"""Rows that the recipes train on, and how they are split."""
