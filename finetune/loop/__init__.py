"""The training loop, its run folder, LoRA and FSDP."""
