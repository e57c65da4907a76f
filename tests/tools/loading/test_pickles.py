"""The restricted unpickler: plain pickles of numbers are read, code is refused before it is looked up."""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from namepin.tools.errors import NamepinError
from namepin.tools.loading.pickles import read_checkpoint

TENSOR = torch.arange(6.0).reshape(2, 3)


def saved(value: object, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **settings)
    return buffer.getvalue()


def read(tmp_path: Path, data: bytes) -> dict[str, torch.Tensor]:
    (tmp_path / "x.pt").write_bytes(data)
    return read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "data",
    [
        saved({"a": TENSOR, "b": TENSOR.int()}),
        saved({"a": TENSOR, "b": TENSOR.int()}, _use_new_zipfile_serialization=False),
        saved({"model": {"a": TENSOR, "b": TENSOR.int()}, "epoch": 3}),
        pickle.dumps({"a": TENSOR.numpy(), "b": TENSOR.int().numpy()}),
        pickle.dumps({"a": TENSOR.numpy(), "b": TENSOR.int().numpy()}, protocol=0),
        pickle.dumps({"model": OrderedDict(a=TENSOR.numpy(), b=TENSOR.int().numpy()), "author": "x"}, protocol=2),
        pickle.dumps({"state_dict": {"a": TENSOR, "b": TENSOR.int()}, "lr": [0.1, (1, None, True)]}, protocol=4),
    ],
    ids=["zip", "legacy", "under model", "arrays", "text pickle", "ordered", "tensors"],
)
def test_read_checkpoint_of_plain_tensors_returns_them(tmp_path: Path, data: bytes) -> None:
    found = read(tmp_path, data)
    assert set(found) == {"a", "b"}
    assert torch.equal(found["a"], TENSOR) and torch.equal(found["b"], TENSOR.int())
    found["a"][0, 0] = 5  # its own memory, and writable


class _Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


ESCAPES = {
    "print": _Calls(print, "this must not run"),
    "eval": _Calls(eval, "print('this must not run')"),
    "open": _Calls(open, "escaped", "w"),
    "a class": Path("x"),
    "a torch function": _Calls(torch.load, "x"),
    "an array of objects": np.array([{}], dtype=object),
    "getattr": _Calls(getattr, {}, "keys"),
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_read_checkpoint_with_code_raises_e214_and_runs_nothing(
    tmp_path: Path, escape: object, protocol: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NamepinError) as raised:
        read(tmp_path, pickle.dumps({"a": np.zeros(2), "b": escape}, protocol))
    assert raised.value.code == "E214"
    assert "must not run" not in capsys.readouterr().out and not (tmp_path / "escaped").exists()


def test_read_checkpoint_with_code_inside_tensor_raises_e214(tmp_path: Path) -> None:
    inner = pickle.dumps({"a": _Calls(print, "this must not run")}, 2)
    with pytest.raises(NamepinError) as raised:
        read(tmp_path, pickle.dumps({"a": _Calls(torch.storage._load_from_bytes, inner)}))
    assert raised.value.code == "E214"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "E211"),
        (b"not a pickle", "E211"),
        (pickle.dumps({"a": np.zeros(1000)})[:500], "E211"),
        (saved({"a": TENSOR})[:200], "E211"),
        (b"cbuiltins\nobject\n.", "E214"),
        (b"\x80\x04K\x01.", "E212"),
        (b"\x80\x04N0N0.", "E211"),
        (pickle.dumps({"a": 3, "b": "text"}), "E212"),
        (pickle.dumps([1, 2]), "E212"),
    ],
    ids=["empty", "text", "cut array", "cut zip", "a name", "a number", "stack", "no tensors", "a list"],
)
def test_read_checkpoint_of_invalid_file_raises_coded_error(tmp_path: Path, data: bytes, code: str) -> None:
    with pytest.raises(NamepinError) as raised:
        read(tmp_path, data)
    assert raised.value.code == code


def test_read_checkpoint_of_random_bytes_returns_or_raises_coded_error(tmp_path: Path) -> None:
    """Bytes of a good file changed at random: read as something, or refused with a code; nothing else."""
    good, chance = pickle.dumps({"a": np.arange(3), "b": OrderedDict(c=1.5)}, 2), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(good)
        data[chance.integers(len(data))] = chance.integers(256)
        try:
            read(tmp_path, bytes(data))
        except NamepinError as error:
            assert error.code in ("E211", "E212", "E214")
