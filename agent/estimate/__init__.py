"""What a batch will take: `config` (hardware, prices), `sample` (measures), `model` (reckons)."""
