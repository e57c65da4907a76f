"""The settings of every recipe: what `namepin finetune TOOL --set` takes. They import no PyTorch."""
