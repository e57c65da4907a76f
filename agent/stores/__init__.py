"""Stores between requests: tools of a profile, pictures, heat maps, files, training rows."""
