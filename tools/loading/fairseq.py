"""Reads fairseq's checkpoints: tensors under `model`, and settings that are pickled objects of several libraries.

Only names and plain values of those objects are needed. So an empty stand-in replaces every class and holds its state;
the class's own code is never loaded. Any other name in the file is an error.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namepin.tools.errors import NamepinError
from namepin.tools.loading.pretrained import another_model, damage_error, few, load_errors

_SETTINGS = re.compile(
    r"(argparse\.Namespace|collections\.defaultdict|typing\.\w+|builtins\.(dict|list|tuple|set|int|float|str|bool|bytes))$"
    r"|(omegaconf|fairseq|tasks|criterions|models|ofa_module)(\.\w+)+$"
)
"""The allowed classes: those of argparse and OmegaConf, some of Python's own that OmegaConf's type hints name, and the
configurations of fairseq and of OFA's tasks and criterions."""

_MEND = "give the checkpoint as fairseq wrote it"


def read_fairseq(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a fairseq checkpoint, and its settings: `model`, `task` and others, each a dictionary.

    Raises:
        NamepinError: E211 when it is damaged, E212 when it holds no tensors, E214 when it holds anything but numbers
            and settings.
    """
    where = str(path)
    with load_errors(where), path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise damage_error("not a zip archive of PyTorch 1.6 or later", where)
    try:
        with load_errors(where), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on pickle protocols
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            _only_settings(names, where)
            stand_ins: list[Any] = [(type("Setting", (_Setting,), {}), name) for name in names]
            with torch.serialization.safe_globals(stand_ins):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except RuntimeError as error:
        raise damage_error((str(error).strip() or "unreadable").splitlines()[0], where) from error
    state = loaded.get("model") if isinstance(loaded, Mapping) else None
    tensors = {str(key): value for key, value in (state or {}).items() if isinstance(value, Tensor)}
    if not tensors:
        raise another_model("no tensors under 'model'", where, _MEND)
    settings = plain(loaded.get("cfg") or {"model": loaded.get("args")})
    return tensors, settings if isinstance(settings, dict) else {}


def _only_settings(names: list[str], where: str) -> None:
    strange = [name for name in names if not _SETTINGS.match(name)]
    if strange:
        raise NamepinError(
            "E214",
            f"the file holds more than numbers and settings ({few(strange)}): loading it could "
            "run code, so it is refused",
            where=where,
            mend="take the publisher's file",
        )


class _Setting:
    """A stand-in for an object of settings; it only holds its arguments and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.made_of = arguments


def plain(value: Any) -> Any:
    """Settings of any of the libraries as dictionaries, lists and plain values."""
    if isinstance(value, _Setting):
        state = vars(value)
        # OmegaConf holds a dictionary or list as _content, and a single value as _val.
        inner = next((state[key] for key in ("_content", "_val") if key in state), state)
        return plain(inner)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
