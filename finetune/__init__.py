"""One recipe a tool: a config, `train()` and a thin command."""

import tools as _quiet  # noqa: F401  # turns usage reporting off before any library is imported
