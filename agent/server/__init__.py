"""The server: a REST surface for applications, and its doors."""
