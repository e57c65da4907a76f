"""What people touch: the Python API, the command line, profiles and settings."""
