"""One recipe per tool: a config, `train()` and a thin command."""

if __name__ != "namepin.finetune":
    raise ImportError("this folder is the package namepin.finetune: import it under that name")
