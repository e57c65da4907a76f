"""Device and precision of a large model: cpu, cuda or mps; 8 or 4 bits by bitsandbytes, on CUDA."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from namepin.tools.errors import Exit, NamepinError, install_command
from namepin.tools.loading.config import Placement
from namepin.tools.loading.pretrained import device_named, load_folder


def load_on_device(placement: Placement, loader: Any, path: Path, *, kind: str, mend: str) -> Any:
    """Load a net of a transformers folder on the device of the settings, without gradients.

    Args:
        placement: device and precision.
        loader: the transformers class.
        path: the folder.
        kind: the expected `model_type`.
        mend: the fix for E212: which checkpoint to use.

    Raises:
        NamepinError: as `namepin.tools.loading.pretrained.load_folder`; E216 no such device, E301 no bitsandbytes.
    """
    device, dtype = device_named(placement.device), getattr(torch, placement.dtype)
    if placement.quantization == "none":
        net = load_folder(loader, path, kind=kind, mend=mend, dtype=dtype).to(device)
    else:
        quantised = QuantisedLoader(loader, int(placement.quantization[0]), placement.device, dtype)
        net = load_folder(quantised, path, kind=kind, mend=mend, dtype=dtype)
    return net.requires_grad_(False)


class QuantisedLoader:
    """A transformers class whose weights are quantised by bitsandbytes while they are loaded.

    It replaces the class in `namepin.tools.loading.pretrained.load_folder`.

    Args:
        loader: the transformers class.
        bits: 4 (NF4, with the scales quantised too, as QLoRA does) or 8.
        device: a CUDA device.
        dtype: data type of the computation.

    Raises:
        NamepinError: E301 without bitsandbytes, E216 without a CUDA device.
    """

    def __init__(self, loader: Any, bits: int, device: str, dtype: torch.dtype) -> None:
        if find_spec("bitsandbytes") is None:
            raise NamepinError(
                "E301", f"{bits}-bit weights need the package bitsandbytes", where="quantization",
                mend=f"{install_command('namepin[gpu]')}, or set quantization to none", exit_code=Exit.UNREACHABLE,
            )  # fmt: skip
        if torch.device(device).type != "cuda" or not torch.cuda.is_available():
            raise NamepinError(
                "E216", f"{bits}-bit weights need a CUDA device, not {device!r}", where="quantization",
                mend="set device to cuda, or quantization to none",
            )  # fmt: skip
        import transformers

        self.config_class = getattr(loader, "config_class", None)
        self._loader, self._device = loader, device
        make_settings: Any = transformers.BitsAndBytesConfig
        self._config = make_settings(
            load_in_4bit=bits == 4,
            load_in_8bit=bits == 8,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )

    def from_pretrained(self, folder: Any, **settings: Any) -> Any:
        """As the class's own method."""
        return self._loader.from_pretrained(
            folder, quantization_config=self._config, device_map={"": self._device}, **settings
        )
