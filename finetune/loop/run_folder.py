"""The files of a training run: its checkpoint, the best weights, their manifest and model card."""

import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import Tensor, nn

from namepin.evals.overlap import KEY, TrainedPosts, trained_posts
from namepin.finetune.loop.fsdp import like, whole
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_stream, atomic_write, remove_leftovers, sync
from namepin.tools.jsonl import dump_json, parse_json
from namepin.tools.loading.pretrained import damage_error, load_errors
from namepin.tools.loading.shipped import shipped_folder

CHECKPOINT = "checkpoint.pt"
KEPT_EPOCH = "kept-epoch"
MANIFEST = "namepin.json"

_FREE = ("out", "root", "data", "workers", "threads", "cpu", "report_to", "checkpoint_steps")
"""Settings that a resumed run may change: they do not change the result."""


def settings_of(recipe: Any) -> dict[str, Any]:
    """A recipe's settings as JSON values."""
    settings: dict[str, Any] = parse_json(dump_json(asdict(recipe)))
    return settings


def trained_tensors(net: nn.Module) -> dict[str, Tensor]:
    """The net's trainable tensors and running statistics, unsharded, on the CPU."""
    learnt = {name: value for name, value in net.named_parameters() if value.requires_grad}
    statistics = {name: value for name, value in net.named_buffers() if "running_" in name}
    return {name: whole(value) for name, value in (learnt | statistics).items()}


def load_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `trained_tensors`."""
    places = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    with torch.no_grad():
        for name, value in tensors.items():
            places[name].copy_(like(value, places[name]))


def write_checkpoint(file: Path, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint. A kill at any moment leaves the previous one intact."""
    remove_leftovers(file)
    with atomic_stream(file) as stream:
        torch.save(dict(state), stream)


def read_checkpoint(
    file: Path,
    settings: Mapping[str, Any],
    free: Collection[str] = _FREE,
    data: Mapping[str, str] | None = None,
) -> dict[str, Any] | None:
    """The state to resume from; None before the first checkpoint.

    Args:
        file: the checkpoint.
        settings: settings of the resumed run.
        free: names of the settings that may differ.
        data: sha256 of the data files, which must not have changed.

    Raises:
        NamepinError: E205 when the run began with other settings or data, E211 or E214 when the file is damaged or
            holds code.
    """
    if not file.is_file():
        return None
    try:
        with load_errors(str(file)):
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except RuntimeError as error:  # torch's error for a truncated file
        raise damage_error(str(error).splitlines()[0], str(file)) from error
    require_same_run(state, file, settings, data, free)
    return state


def require_same_run(
    state: Mapping[str, Any],
    file: Path,
    settings: Mapping[str, Any],
    data: Mapping[str, str] | None = None,
    free: Collection[str] = _FREE,
) -> None:
    """Require that a checkpoint belongs to the run that resumes from it; arguments as `read_checkpoint`.

    Raises:
        NamepinError: E205 when the run began with other settings or data.
    """
    before = state.get("settings", {})
    changed = [key for key in settings if key not in free and before.get(key, settings[key]) != settings[key]]
    if changed:
        key = changed[0]
        raise _another(f"{key}: {before.get(key)!r}, not {settings[key]!r}", file)
    read: Mapping[str, str] = state.get("data", {})
    if data is not None and read and dict(read) != dict(data):
        raise _another(next(name for name in {**read, **data} if read.get(name) != data.get(name)), file)


def _another(what: str, file: Path) -> NamepinError:
    mend = "resume with the settings and data it was started with, or choose another `out`"
    return NamepinError("E205", f"the run to resume had another {what}", where=str(file), mend=mend)


def require_finite(what: str, value: float, out: Path) -> None:
    """Stop a training that has diverged.

    Raises:
        NamepinError: E220 if `value` is not finite.
    """
    if not math.isfinite(value):
        raise _divergence_error(what, out)


def require_finite_weights(net: nn.Module, out: Path) -> None:
    """Stop before weights that are not finite are saved.

    Raises:
        NamepinError: E220 if a weight is not finite.
    """
    for name, value in net.named_parameters():
        if value.requires_grad and not bool(value.isfinite().all()):
            raise _divergence_error(f"{name} is not finite after the epoch's last step", out)


def _divergence_error(what: str, out: Path) -> NamepinError:
    mend = "start again in another `out`, with lower learning rates or without bf16 or fp16"
    return NamepinError("E220", what, where=str(out), mend=mend)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill. It replaces `folder` when it is complete."""
    partial, old = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # a leftover would take space on a full disk
        raise
    for path in (*partial.rglob("*"), partial):
        sync(path)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into E500."""
    try:
        yield
    except NamepinError:
        raise
    except Exception as error:
        # torch's writer reports missing bytes, with the system's error as its context; the writers of safetensors
        # and tokenizers put the system's error into their own message.
        cause = error if isinstance(error, OSError) else error.__context__
        message = cause.strerror or str(cause) if isinstance(cause, OSError) else str(error)
        if not isinstance(cause, OSError) and not re.search(r"\(os error \d+\)", message):
            raise
        mend = "make room or choose another `out`; --resume continues from the last checkpoint, if there is one"
        raise NamepinError("E500", f"the run cannot be written: {message}", where=str(out), mend=mend) from error


def ensure_writable(out: Path) -> Path:
    """Create the run folder, and require that it is writable.

    Raises:
        NamepinError: E500 if it cannot be created or written.
    """
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            return out


def write_manifest(
    folder: Path,
    recipe: Any,
    tool: str,
    data: Mapping[str, str],
    history: Sequence[Mapping[str, float]],
    trained: TrainedPosts | None = None,
) -> None:
    """`namepin.json` and a draft of a model card, beside the weights; `trained` is the record of training posts."""
    record = {
        "tool": tool,
        "recipe": type(recipe).__name__,
        "settings": {key: _nameable(value) for key, value in settings_of(recipe).items() if key not in ("out", "root")},
        "data_sha256": dict(data),
        "history": list(history),
        "code": code_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate")}
        | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'}",
    } | ({KEY: trained.model_dump()} if trained else {})
    atomic_write(folder / MANIFEST, dump_json(record, indent=1) + "\n")
    atomic_write(folder / "README.md", model_card(record))


def all_trained_posts(recipe: Any, own: TrainedPosts) -> TrainedPosts | None:
    """The posts of a run and of the weights that it starts from; None where those were trained without a record."""
    for name in ("weights", "start"):
        folder = Path(getattr(recipe, name, "") or "-")
        trained, record = trained_posts(shipped_folder(str(folder)) or folder)
        if record:
            own = own.together_with(record)
        elif trained:
            return None
    return own


def _nameable(value: Any) -> Any:
    """The last part of each path of this machine; the rest means nothing on other machines."""
    if isinstance(value, list):
        return [_nameable(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def model_card(record: Mapping[str, Any]) -> str:
    """A draft of a model card with the facts of the run, whose last epoch is that of the weights."""
    kept = record["history"][-1]
    rows = "\n".join(f"| {key} | {value} |" for key, value in record["settings"].items())
    files = "\n".join(f"- `{name}`, sha256 {sha}" for name, sha in record["data_sha256"].items())
    scores = ", ".join(f"{key} {value}" for key, value in kept.items() if key not in ("epoch", "loss", "score"))
    maker = f"Namepin {record['code']} (`{record['recipe']}`) on {record['machine']}"
    return f"""---
tags: [namepin, {record["tool"]}]
---
# {record["tool"]}
Trained with {maker}. Epoch {kept["epoch"]:g} on dev: {scores}.

## Data
{files}

## Settings
| setting | value |
| --- | --- |
{rows}

## To fill in
Licence of the data and of the weights that the run started from; intended use; known failures.
"""


def code_version() -> str:
    """The package's version, with the commit when it runs from a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return f"{version('namepin')} {commit}".strip()
