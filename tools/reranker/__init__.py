"""The type of one uncertain mention, chosen among its candidates."""
