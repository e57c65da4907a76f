"""Output of an `Extraction` for people: table, JSON, annotated picture, page."""
