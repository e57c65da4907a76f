"""What people touch: the Python API, the command line, profiles and settings."""

if __name__ != "namepin.agent":
    raise ImportError("this folder is the package namepin.agent: import it under that name")
