"""One recipe a tool: a config, `train()` and a thin command."""
