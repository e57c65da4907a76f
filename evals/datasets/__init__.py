"""Readers of the data sets as their authors publish them, one file each."""
