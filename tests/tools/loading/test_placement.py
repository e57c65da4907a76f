"""Quantised loading, without a CUDA device: what bitsandbytes is asked for."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from namepin.tools.loading import placement
from namepin.tools.loading.placement import QuantisedLoader


class Loader:
    """A class of transformers that keeps what it is told."""

    told: dict[str, Any]

    @classmethod
    def from_pretrained(cls, folder: Path, **settings: Any) -> "Loader":
        cls.told = {"folder": folder, **settings}
        return cls()


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_loader_asks_for_qlora_precision_on_the_device(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    monkeypatch.setattr(placement, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(transformers, "BitsAndBytesConfig", dict)
    QuantisedLoader(Loader, bits, "cuda:1", torch.bfloat16).from_pretrained(Path("net"), dtype=torch.bfloat16)
    assert Loader.told == {
        "folder": Path("net"),
        "dtype": torch.bfloat16,
        "device_map": {"": "cuda:1"},
        "quantization_config": {
            "load_in_4bit": bits == 4,
            "load_in_8bit": bits == 8,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": torch.bfloat16,
        },
    }
