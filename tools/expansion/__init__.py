"""A mention reworded as a plain referring expression."""
