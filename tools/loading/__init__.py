"""Weights from disk or hub: readers, adapters, conversion and placement."""
