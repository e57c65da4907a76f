"""What people see of an `Extraction`: table, JSON, annotated picture, page."""
