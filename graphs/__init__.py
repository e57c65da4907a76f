"""LangGraph state machines, and their record and replay."""

import tools as _quiet  # noqa: F401  # turns usage reporting off before any library is imported
