"""BLIP's image-text matching weights, in both forms they are published in.

- a transformers folder or hub name (`Salesforce/blip-itm-large-coco`): `config.json` and safetensors;
- an original Salesforce file (`model_large_retrieval_coco.pth`, used by BLIP and LAVIS alike): a pickle of tensors,
  read without running code. Its sizes are read off its tensors, and its names translated by `translate`.

Of such a file the image encoder, the text encoder, the two projections and the ITM head are taken; the momentum copies
(`*_m`), queues and temperature served training only. Any other name is an error, so that nothing is lost unseen.
"""

import json
import math
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.base import digest, file_sha256
from tools.errors import Exit, NamepinError
from tools.preprocess import CLIP_MEAN, CLIP_STD

_HEAD_WIDTH = 64
"""Channels of an attention head in every BLIP that was published; the original files do not store the heads."""

_TRAINING_ONLY = re.compile(
    r"(visual_encoder_m|text_encoder_m|vision_proj_m|text_proj_m)\.|(image|text|idx|ptr)_queue$|temp$"
    r"|text_encoder\.embeddings\.position_ids$"
)
_RENAMED = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision_model.encoder.layers.\1.self_attn.projection."),
    (r"^visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
)
"""Original name -> transformers' name; text encoder, projections and head are named alike in both."""


@dataclass(frozen=True)
class BlipCheckpoint:
    """Loaded weights and what belongs to them.

    Attributes:
        net: `BlipForImageTextRetrieval`, float32, evaluation mode, on the CPU.
        tokenizer: BERT's, as the checkpoint or the settings name it.
        mean: of the picture's channels, for normalising.
        std: likewise.
        identity: sha256 of weights, configuration and vocabulary; equal identities compute the same.
    """

    net: Any
    tokenizer: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    identity: str


def locate(weights: str, revision: str | None = None) -> Path:
    """The local folder or file of `weights`: a path, or a hub name fetched (or found in the hub's cache).

    Raises:
        NamepinError: E210 when a path does not exist, E213 when the hub does not give it.
    """
    path = Path(weights)
    if path.exists():
        return path
    if path.suffix in (".pth", ".pt", ".safetensors") or weights.count("/") != 1 or weights[0] in "./~":
        raise NamepinError(
            "E210", "no weights here", where=weights, mend="give a folder, an original .pth file, or a name on the hub"
        )
    from huggingface_hub import snapshot_download

    try:
        # A folder may hold the same weights in several forms; of them only safetensors is fetched where there is one.
        wanted = ["*.json", "*.txt", "model*.safetensors"]
        folder = Path(snapshot_download(weights, revision=revision, allow_patterns=wanted))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(weights, revision=revision, allow_patterns=["*.json", "*.txt", "*.bin"]))
    except Exception as error:  # the hub's client raises a dozen kinds, from bad names to no network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NamepinError(
            "E213",
            f"{weights!r} is not on this machine, and the hub did not give it: {reason}",
            mend=f"run `hf download {weights}` where there is a network, or give a local path",
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
    files = sorted(path.glob("model*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
    if not files:
        raise NamepinError("E210", "no model.safetensors here", where=str(path), mend="give the checkpoint's folder")
    return files


def weights_sha256(path: Path) -> str:
    """Sha256 over the weights of a folder or file; a single file's is the file's own."""
    sums = [file_sha256(file) for file in weight_files(path)]
    return sums[0] if len(sums) == 1 else digest(sums)


def load_blip(path: Path, sha256: str, *, tokenizer: str, vision_norm_eps: float | None) -> BlipCheckpoint:
    """Load a BLIP with its ITM head from a transformers folder or an original `.pth` file.

    Args:
        path: see `locate`.
        sha256: `weights_sha256(path)`.
        tokenizer: for an original file, which brings none: a folder or hub name.
        vision_norm_eps: see `BlipConfig.vision_norm_eps`; None keeps what a folder's `config.json` says.

    Raises:
        NamepinError: E211 damaged or truncated, E212 weights of another model, E214 a pickle with code in it,
            E218 no tokenizer, or one that does not fit.
    """
    if path.is_dir():
        net, mean, std = _from_folder(path, vision_norm_eps)
        words = _tokenizer(str(path))
    else:
        net, mean, std = from_original(read_pickle(path), str(path), vision_norm_eps or 1e-6), CLIP_MEAN, CLIP_STD
        words = _tokenizer(tokenizer)
    if len(words) > net.config.text_config.vocab_size:
        raise NamepinError(
            "E218",
            f"the tokenizer has {len(words)} tokens, the text encoder knows {net.config.text_config.vocab_size}",
            where=str(path),
            mend="use bert-base-uncased's",
        )
    config = {key: value for key, value in net.config.to_dict().items() if key != "transformers_version"}
    identity = digest([sha256, _without_paths(config), mean, std, words.get_vocab()])
    return BlipCheckpoint(net.eval(), words, mean, std, identity)


def _without_paths(config: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in config.items() if key != "_name_or_path"}, sort_keys=True)


def _from_folder(folder: Path, vision_norm_eps: float | None) -> tuple[Any, tuple[float, ...], tuple[float, ...]]:
    from transformers import BlipConfig, BlipForImageTextRetrieval

    where = str(folder)
    described = _json(folder / "config.json")
    if described.get("model_type") != "blip":
        raise NamepinError(
            "E212",
            f"the checkpoint is of the kind {described.get('model_type')!r}, not 'blip'",
            where=where,
            mend="take a BLIP with an image-text matching head, such as Salesforce/blip-itm-large-coco",
        )
    with _load_errors(where), _quiet_transformers():
        config: Any = BlipConfig.from_pretrained(folder)
        if vision_norm_eps is not None:
            config.vision_config.layer_norm_eps = vision_norm_eps
        loader: Any = BlipForImageTextRetrieval
        net, report = loader.from_pretrained(
            folder,
            config=config,
            attn_implementation="eager",
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    strange = {key for key in report["unexpected_keys"] if not key.endswith("position_ids")}
    _check_names(set(report["missing_keys"]) | {str(key) for key in report["mismatched_keys"]}, strange, where)
    processor = folder / "preprocessor_config.json"
    said = _json(processor) if processor.is_file() else {}
    return net, tuple(said.get("image_mean", CLIP_MEAN)), tuple(said.get("image_std", CLIP_STD))


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise NamepinError("E210", f"{path.name} is missing", where=str(path.parent), mend="copy it again") from error
    except (OSError, ValueError, TypeError) as error:
        raise NamepinError("E211", f"not readable as JSON: {error}", where=str(path), mend="copy it again") from error


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    folder = Path(name)
    # transformers would make an empty tokenizer of such a folder.
    if folder.is_dir() and not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt")):
        raise NamepinError(
            "E218",
            "no tokenizer.json and no vocab.txt",
            where=name,
            mend="copy the tokenizer's files beside the weights",
        )
    try:
        with _quiet_transformers():
            return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # missing files, no network, a kind transformers does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NamepinError(
            "E218", f"no tokenizer: {reason}", where=name, mend="give a folder or hub name of bert-base-uncased"
        ) from error


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of an original checkpoint (under `model`, where there is such a key).

    Raises:
        NamepinError: E211 when it is damaged, E214 when it holds more than tensors and plain values.
    """
    with _load_errors(str(path)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on old pickle protocols
        state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("model", state) if isinstance(state, dict) else {}
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise NamepinError("E212", "no tensors in the checkpoint", where=str(path), mend="give a BLIP checkpoint")
    return tensors


def translate(names: Iterator[str] | Mapping[str, Tensor]) -> dict[str, str]:
    """Original name -> transformers' name, for all but the names that served training only."""
    renamed = {}
    for name in names:
        if _TRAINING_ONLY.match(name):
            continue
        renamed[name] = name
        for pattern, replacement in _RENAMED:
            if re.match(pattern, name):
                renamed[name] = re.sub(pattern, replacement, name)
    return renamed


def from_original(state: Mapping[str, Tensor], where: str, vision_norm_eps: float = 1e-6) -> Any:
    """The net of an original checkpoint, its sizes read off the tensors' shapes.

    Raises:
        NamepinError: E212 when a tensor is missing, left over, or of another shape.
    """
    from transformers import BlipForImageTextRetrieval

    config = _config_of(state, where, vision_norm_eps)
    renamed = translate(state)
    with torch.device("meta"):
        net: Any = BlipForImageTextRetrieval(config)
    wanted = net.state_dict()
    _check_names(set(wanted) - set(renamed.values()), set(renamed.values()) - set(wanted), where)
    loaded = {new: state[old].float() for old, new in renamed.items()}
    wrong = [f"{key} {tuple(loaded[key].shape)}" for key in wanted if loaded[key].shape != wanted[key].shape]
    if wrong:
        raise _another_model(f"tensors of another shape: {_few(wrong)}", where)
    net.load_state_dict(loaded, assign=True)
    # Not part of a state dict, so still without values.
    positions = torch.arange(config.text_config.max_position_embeddings).unsqueeze(0)
    net.text_encoder.embeddings.position_ids = positions
    return net


def _config_of(state: Mapping[str, Tensor], where: str, vision_norm_eps: float) -> Any:
    from transformers import BlipConfig

    try:
        patch = state["visual_encoder.patch_embed.proj.weight"].shape
        positions = state["visual_encoder.pos_embed"].shape[1] - 1
        words = state["text_encoder.embeddings.word_embeddings.weight"].shape
        vision = {
            "hidden_size": patch[0],
            "intermediate_size": state["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": _count(state, r"visual_encoder\.blocks\.(\d+)\."),
            "num_attention_heads": max(1, patch[0] // _HEAD_WIDTH),
            "patch_size": patch[-1],
            "image_size": patch[-1] * math.isqrt(positions),
            "layer_norm_eps": vision_norm_eps,
        }
        text = {
            "vocab_size": words[0],
            "hidden_size": words[1],
            "intermediate_size": state["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
            "num_hidden_layers": _count(state, r"text_encoder\.encoder\.layer\.(\d+)\."),
            "num_attention_heads": max(1, words[1] // _HEAD_WIDTH),
            "max_position_embeddings": state["text_encoder.embeddings.position_embeddings.weight"].shape[0],
        }
        projection = state["vision_proj.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise _another_model(f"{error} is missing or of another shape", where) from error
    config = BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=projection)
    config._attn_implementation = "eager"
    return config


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})


def _check_names(missing: set[str], strange: set[str], where: str) -> None:
    said = []
    if missing:
        said.append(f"{len(missing)} tensors are missing: {_few(sorted(missing))}")
    if strange:
        said.append(f"{len(strange)} are unknown: {_few(sorted(strange))}")
    if said:
        raise _another_model("; ".join(said), where)


def _few(names: list[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")


def _another_model(what: str, where: str) -> NamepinError:
    return NamepinError(
        "E212",
        f"not a BLIP with an image-text matching head: {what}",
        where=where,
        mend="take such as Salesforce/blip-itm-large-coco or model_large_retrieval_coco.pth",
    )


@contextmanager
def _load_errors(where: str) -> Iterator[None]:
    """Turn what safetensors, pickle and transformers raise into E211, E212 or E214."""
    from safetensors import SafetensorError

    try:
        yield
    except pickle.UnpicklingError as error:
        if not re.search("Unsupported (global|class)", str(error)):
            raise _damaged(ValueError("not a checkpoint of PyTorch"), where) from error
        raise NamepinError(
            "E214",
            "the file holds more than numbers: loading it could run code, so it is refused",
            where=where,
            mend="take the publisher's file, or a safetensors file",
        ) from error
    except RuntimeError as error:
        if "size mismatch" in str(error) or "ignore_mismatched_sizes" in str(error):
            raise _another_model("its tensors do not have the shapes of config.json", where) from error
        raise _damaged(error, where) from error
    except (SafetensorError, OSError, EOFError, ValueError, KeyError) as error:
        raise _damaged(error, where) from error


def _damaged(error: Exception, where: str) -> NamepinError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return NamepinError(
        "E211", f"the weights are damaged or truncated: {reason}", where=where, mend="download or copy them again"
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bar and load report off the terminal: what matters is checked here."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
