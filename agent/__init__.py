"""What people touch: the Python API, the command line, profiles and settings."""

import tools as _quiet  # noqa: F401  # turns usage reporting off before any library is imported
