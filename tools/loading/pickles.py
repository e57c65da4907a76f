"""Reads checkpoints that are plain pickles without running their code.

A pickle is a small program: it may name and call any function of any module. `read_checkpoint` reads a file in one of
PyTorch's own formats with PyTorch's restricted reader, and any other file with the reader of this module. That reader
allows a few harmless names (for pickled arrays, tensors and ordered dictionaries), and refuses all others before they
are looked up.
"""

import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from namepin.tools.loading.pretrained import another_model, load_errors, read_pickle

_TORCH_LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""First bytes of files by `torch.save` before they were zip archives."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name (under `model` or `state_dict`, where there is such a key).

    Raises:
        NamepinError: E211 when it is damaged, E212 when it holds no tensors, E214 when it holds code.
    """
    with load_errors(str(path)), path.open("rb") as file:
        if zipfile.is_zipfile(file) or _begins(file, _TORCH_LEGACY):
            return read_pickle(path)
        file.seek(0)
        loaded = _read(file)
    state = next((loaded[key] for key in ("model", "state_dict") if _is_mapping(loaded, key)), loaded)
    tensors = {str(key): _tensor(value) for key, value in state.items()} if isinstance(state, Mapping) else {}
    found = {key: value for key, value in tensors.items() if value is not None}
    if not found:
        raise another_model("no tensors in the checkpoint", str(path), "give the publisher's file")
    return found


def _begins(file: io.BufferedIOBase | io.BufferedReader, start: bytes) -> bool:
    file.seek(0)
    return file.read(len(start)) == start


def _is_mapping(loaded: Any, key: str) -> bool:
    return isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping)


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value))
    return None


def _read(file: Any) -> Any:
    try:
        return _Unpickler(file).load()
    except (pickle.UnpicklingError, EOFError):
        raise
    except Exception as error:  # random bytes as a program can fail with any error of its opcodes
        raise pickle.UnpicklingError(f"broken pickle: {error}") from error


class _Callable:
    """Stands for one harmless function, so that a pickle cannot change the function itself."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class _Unpickler(pickle.Unpickler):
    """Unpickler for numbers, texts, containers, arrays and tensors."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up one of the few allowed names. `load_errors` recognises code by the words of this error."""
        harmless = _HARMLESS.get((module, name))
        if harmless is None:
            raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")
        return harmless if isinstance(harmless, type) else _Callable(harmless)


def _empty_array(kind: Any, shape: Any, dtype: Any) -> Any:
    """NumPy's first step of unpickling an array; its shape and bytes follow as the array's state."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("not an array")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _dtype(code: Any, *_: Any) -> Any:
    dtype = np.dtype(code)
    if dtype.kind not in "fiub":
        raise pickle.UnpicklingError("Unsupported class: an array of something other than numbers")
    return dtype


def _latin(text: Any, encoding: Any) -> bytes:
    """The function with which pickle's older protocols wrap bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("not bytes")
    return text.encode("latin1")


def _storage(data: Any) -> Any:
    """A pickled tensor's storage, which is itself a file in PyTorch's format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about typed storages
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _rebuilt(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rebuild: Any = torch._utils._rebuild_tensor_v2
        tensor: Tensor = rebuild(storage, int(offset), tuple(size), tuple(stride), False, OrderedDict())
    return tensor


_HARMLESS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("_codecs", "encode"): _latin,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch.storage", "_load_from_bytes"): _storage,
}
"""Name in a pickle -> replacement."""
