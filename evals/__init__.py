"""Data sets, scoring and reports."""

import tools as _quiet  # noqa: F401  # turns usage reporting off before any library is imported
