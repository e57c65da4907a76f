"""The recipes of the visual grounders."""
