"""The pixel mask of a point or a box."""
