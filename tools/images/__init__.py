"""Pictures: loading, tensors, heat maps and polygons."""
