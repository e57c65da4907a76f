"""Published checkpoints: finds and checks them, and reads them without running their code.

A checkpoint is a transformers folder (or its name on the hub), or an original file of its authors: a pickle of
tensors, read with PyTorch's restricted unpickler.
"""

import json
import pickle
import re
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from namepin.tools.base import digest, file_sha256
from namepin.tools.errors import Exit, NamepinError, first_line
from namepin.tools.images.tensors import CLIP_MEAN, CLIP_STD
from namepin.tools.loading.pins import BESIDE_WEIGHTS, PICKLED, SAFETENSORS, fetch_again, pinned_revision
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.loading.shipped import find_shipped


def locate(weights: str, revision: str | None = None) -> Path:
    """The local folder or file of `weights`: a path, shipped weights, or a name on the hub, downloaded or cached.

    A name on the hub is taken at its pinned revision (`namepin.tools.loading.pins`).

    Raises:
        NamepinError: E210 when a path does not exist, E213 when the hub does not provide it, E221 as `find_shipped`.
    """
    path = Path(weights)
    if path.exists():
        return path
    if here := find_shipped(weights):
        return here
    if path.suffix in (".pth", ".pt", ".safetensors") or weights.count("/") != 1 or weights[0] in "./~":
        raise NamepinError(
            "E210",
            "no weights here",
            where=weights,
            mend="give a folder, a .pth file, or a name on the hub; `namepin pull PROFILE` fetches a profile's weights",
        )
    from huggingface_hub import snapshot_download

    try:
        # A folder may hold the same weights in several forms; if safetensors is one, only that is downloaded.
        revision = pinned_revision(weights, revision)
        folder = Path(snapshot_download(weights, revision=revision, allow_patterns=[*BESIDE_WEIGHTS, SAFETENSORS]))
        if not any(folder.glob(SAFETENSORS)):
            folder = Path(snapshot_download(weights, revision=revision, allow_patterns=[*BESIDE_WEIGHTS, PICKLED]))
    except NamepinError:
        raise
    except Exception as error:  # the hub's client raises a dozen types, from bad names to a missing network
        raise NamepinError(
            "E213",
            f"{weights!r} is not on this machine, and the hub did not give it: {first_line(error)}",
            mend=f"run `namepin pull {weights}` where there is a network, or give a local path",
            exit_code=Exit.UNREACHABLE,
        ) from error
    return folder


def weight_files(path: Path) -> list[Path]:
    """The files of `path` (a folder or one file) that hold tensors, in order of name.

    Raises:
        NamepinError: E210 when a folder has none.
    """
    if path.is_file():
        return [path]
    files = sorted(path.glob(SAFETENSORS)) or sorted(path.glob(PICKLED))
    if not files:
        mend = f"give the checkpoint's folder, or {fetch_again(str(path))}"
        raise NamepinError("E210", "no model.safetensors here", where=str(path), mend=mend)
    return files


def weights_sha256(path: Path) -> str:
    """Sha256 over the weights of a folder or file; for a single file, the sha256 of the file."""
    sums = [file_sha256(file) for file in weight_files(path)]
    return sums[0] if len(sums) == 1 else digest(sums)


class _Weighty(Protocol):
    """A tool's settings that name weights; hashable."""

    @property
    def weights(self) -> str: ...

    @property
    def revision(self) -> str | None: ...


Config = TypeVar("Config", bound=_Weighty)
Model = TypeVar("Model")

_LOADED: "weakref.WeakValueDictionary[Any, Any]" = weakref.WeakValueDictionary()
_LOADING = threading.Lock()


def shared_model(config: Config, load: Callable[[Config, Path, str], Model]) -> Model:
    """The model of `config`: the loaded one while some tool holds it, else a newly loaded one.

    So the matcher and the tracer of a profile share weights and cached pictures. Weights that changed on disk are
    loaded again.

    Args:
        config: names the weights; equal settings share a model.
        load: makes the model from settings, path of the weights, and their sha256.

    Raises:
        NamepinError: as `locate`, `weight_files` and `load`.
    """
    with _LOADING:
        path = locate(config.weights, config.revision)
        sha256 = weights_sha256(path)
        model: Model | None = _LOADED.get((config, sha256))
        if model is None:
            model = load(config, path, sha256)
            _LOADED[config, sha256] = model
        return model


def device_named(name: str) -> torch.device:
    """The device, after checking that it works.

    Raises:
        NamepinError: E216 when the device does not exist or does not work.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an unknown name, or a torch built without it
        raise NamepinError("E216", f"no device {name!r} here", mend="set device to cpu, cuda or mps") from error
    return device


def identity(sha256: str, net: Any, *rest: Any) -> str:
    """Sha256 over weights, the net's configuration and everything else that determines its outputs, without paths."""
    config = net.config.to_dict()
    settings = {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}
    return digest([sha256, json.dumps(settings, sort_keys=True, default=str), *rest])


def load_folder(
    loader: Any, folder: Path, *, kind: str, mend: str, adjust: Callable[[Any], None] | None = None, dtype: Any = None
) -> Any:
    """A transformers net from its folder, in evaluation mode, after checking that all tensors fit.

    Attention is computed step by step ("eager"): the fused kernels round differently and show no probabilities.

    Args:
        loader: the transformers class.
        folder: a folder with `config.json` and weights.
        kind: the `model_type` that `config.json` must name.
        mend: the fix for E212: which checkpoint to use.
        adjust: changes the configuration before the net is built.
        dtype: data type of the weights; None is float32.

    Raises:
        NamepinError: E210 no config, E211 damaged or truncated, E212 weights of another model, E214 code in a pickle.
    """
    where = str(folder)
    described = read_json(folder / "config.json")
    if described.get("model_type") != kind:
        found = described.get("model_type")
        raise another_model(f"the checkpoint is of the kind {found!r}, not {kind!r}", where, mend)
    try:
        with load_errors(where), quiet_transformers():
            config = loader.config_class.from_pretrained(folder)
            if adjust is not None:
                adjust(config)
            net, report = loader.from_pretrained(
                folder,
                config=config,
                attn_implementation="eager",
                dtype=dtype or torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
    except RuntimeError as error:
        raise another_model("its tensors do not have the shapes of config.json", where, mend) from error
    strange = {key for key in report["unexpected_keys"] if not key.endswith("position_ids")}
    check_names(set(report["missing_keys"]) | {str(key) for key in report["mismatched_keys"]}, strange, where, mend)
    return net.eval()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        NamepinError: E210 when the file is missing, E211 when it is not a JSON object.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        mend = fetch_again(str(path))
        raise NamepinError("E210", f"{path.name} is missing", where=str(path.parent), mend=mend) from error
    except (OSError, ValueError, TypeError) as error:
        mend = fetch_again(str(path))
        raise NamepinError("E211", f"not readable as JSON: {error}", where=str(path), mend=mend) from error


def normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels, from the folder; CLIP's values if the folder has none."""
    settings: dict[str, Any] = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            read = read_json(folder / name)
            settings |= read.get("image_processor", read)
    return tuple(settings.get("image_mean", CLIP_MEAN)), tuple(settings.get("image_std", CLIP_STD))


def load_tokenizer(name: str, vocabulary: int) -> Any:
    """The tokenizer of a folder or hub name, for embeddings of `vocabulary` rows.

    Raises:
        NamepinError: E218 when it is missing, or has more tokens than the embeddings.
    """
    from transformers import AutoTokenizer

    folder = Path(name)
    # transformers would make an empty tokenizer from such a folder.
    if folder.is_dir() and not any(all((folder / file).is_file() for file in files) for files in _TOKENIZER_FILES):
        raise NamepinError(
            "E218",
            "no tokenizer.json and no vocab.txt",
            where=name,
            mend=f"copy the tokenizer's files beside the weights, or {fetch_again(f'{name}/')}",
        )
    try:
        with quiet_transformers():
            pin = None if folder.is_dir() else pinned_revision(name)
            tokenizer = AutoTokenizer.from_pretrained(name, **({"revision": pin} if pin else {}))
    except Exception as error:  # missing files, a missing network, a kind unknown to transformers
        raise NamepinError(
            "E218",
            f"no tokenizer: {first_line(error)}",
            where=name,
            mend="give the folder of one, or a hub name, which `namepin pull` fetches with the profile's weights",
        ) from error
    if len(tokenizer) > vocabulary:
        raise NamepinError(
            "E218",
            f"the tokenizer has {len(tokenizer)} tokens, the model's embeddings {vocabulary}",
            where=name,
            mend="use the tokenizer that belongs to the weights",
        )
    return tokenizer


_TOKENIZER_FILES = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))
"""The files of a tokenizer; one of the sets is enough."""


def read_pickle(path: Path, under: Sequence[str] = ("model",)) -> dict[str, Tensor]:
    """The tensors of an original checkpoint (under the first existing key of `under`).

    Raises:
        NamepinError: E211 when it is damaged, E212 when it holds no tensors, E214 when it holds code.
    """
    try:
        with load_errors(str(path)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on old pickle protocols
            state = torch.load(path, map_location="cpu", weights_only=True)
    except RuntimeError as error:
        raise damage_error(first_line(error), str(path)) from error
    state = next((state[key] for key in under if key in state), state) if isinstance(state, dict) else {}
    state = state if isinstance(state, dict) else {}
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise another_model("no tensors in the checkpoint", str(path), "give the publisher's file")
    return tensors


def check_names(missing: set[str], strange: set[str], where: str, mend: str) -> None:
    """Check that a checkpoint has exactly the expected tensors.

    Raises:
        NamepinError: E212 when a tensor is missing or unknown.
    """
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing: {few(sorted(missing))}")
    if strange:
        problems.append(f"{len(strange)} are unknown: {few(sorted(strange))}")
    if problems:
        raise another_model("; ".join(problems), where, mend)


def load_exactly(net: nn.Module, tensors: Mapping[str, Tensor], where: str, mend: str) -> None:
    """Put tensors into a net on the device `meta`, after checking that names and shapes fit and all numbers are finite.

    Raises:
        NamepinError: E212 when a tensor is missing, left over, or of another shape; E211 for numbers that are not
            finite.
    """
    wanted = net.state_dict()
    check_names(set(wanted) - set(tensors), set(tensors) - set(wanted), where, mend)
    wrong = [f"{key} {tuple(tensors[key].shape)}" for key in wanted if tensors[key].shape != wanted[key].shape]
    if wrong:
        raise another_model(f"tensors of another shape: {few(wrong)}", where, mend)
    broken = [key for key in wanted if not tensors[key].isfinite().all()]
    if broken:
        raise damage_error(f"numbers that are not finite in {few(broken)}", where)
    net.load_state_dict(tensors, assign=True)


def few(names: list[str]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")


def another_model(what: str, where: str, mend: str) -> NamepinError:
    """E212."""
    mend = f"{mend}; `namepin pull NAME` fetches what the hub has"
    return NamepinError("E212", f"weights of another model: {what}", where=where, mend=mend)


def damage_error(reason: str, where: str) -> NamepinError:
    """E211."""
    return NamepinError("E211", f"the weights are damaged or truncated: {reason}", where=where, mend=fetch_again(where))


@contextmanager
def load_errors(where: str) -> Iterator[None]:
    """Turn errors of safetensors, pickle and the file system into E211 or E214."""
    from safetensors import SafetensorError

    try:
        yield
    except pickle.UnpicklingError as error:
        if not re.search("unsupported (global|class)", str(error), re.IGNORECASE):
            raise damage_error("not a checkpoint of PyTorch", where) from error
        raise NamepinError(
            "E214",
            "the file holds more than numbers: loading it could run code, so it is refused",
            where=where,
            mend="take the publisher's file, or a safetensors file, which `namepin pull NAME` prefers",
        ) from error
    except (SafetensorError, OSError, EOFError, ValueError, KeyError) as error:
        raise damage_error(first_line(error), where) from error
