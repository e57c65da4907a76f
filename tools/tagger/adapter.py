"""The parts of a tagger: its specification, its net, and its adapter folder.

An adapter folder holds `config.json` (a `Manifest`) and `adapter.safetensors`: every trained parameter in half
precision. Frozen parameters, such as MiniLM's word embeddings, come from the encoder's base weights. A layer that was
trained by LoRA has two factors there, by PEFT's names; their product is added to its base weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_path, atomic_write
from namepin.tools.jsonl import dump_json
from namepin.tools.labels import COARSE4, COARSE8, COARSE8_TO_4, FINE51, FINE_TO_COARSE4, FINE_TO_COARSE8
from namepin.tools.loading.config import MINILM
from namepin.tools.loading.encoder import load_encoder, read_safetensors
from namepin.tools.nets.dual_tagger import DualTaggerNet
from namepin.tools.tagger.config import Scheme
from namepin.tools.tagger.rows import CASES, CONTEXTS, FINE_HINTS, HINTS, MARKS, NUM_CHARS, InputSpec, RowBuilder
from namepin.tools.types import Frozen

ADAPTER_FILE, MANIFEST_FILE = "adapter.safetensors", "config.json"
_DOWN, _UP = ".lora_A.default.weight", ".lora_B.default.weight"


class TaggerSpec(Frozen):
    """Everything that determines a tagger's architecture.

    Attributes:
        scheme: coarse types / fine types; `4` alone is a single path (GMNER, section 4.1 of GEM).
        encoder: a transformers encoder, by hub name or folder.
        beta: weight of the coarse logits in the fine ones (equation 9).
        dropout: dropout of both paths.
        bio_constraint: whether the CRFs allow `I-x` only after `B-x` or `I-x`.
        input: how a post becomes rows.
    """

    scheme: Scheme = "4/51"
    encoder: str = MINILM
    beta: float = Field(0.1, ge=0, le=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    bio_constraint: bool = True
    input: InputSpec = InputSpec()

    @property
    def coarse_types(self) -> tuple[str, ...]:
        """Types of the coarse path, in tag order."""
        return COARSE8 if self.scheme == "8/51" else COARSE4

    @property
    def fine_types(self) -> tuple[str, ...]:
        """Types of the fine path, in tag order; none with a single path."""
        return () if self.scheme == "4" else FINE51

    @property
    def parents(self) -> Mapping[str, str]:
        """Fine type -> coarse type of this scheme."""
        return FINE_TO_COARSE8 if self.scheme == "8/51" else FINE_TO_COARSE4

    def to_coarse4(self, coarse: str) -> str:
        """GMNER's type for a coarse type."""
        return COARSE8_TO_4[coarse] if self.scheme == "8/51" else coarse


class Manifest(Frozen):
    """An adapter's `config.json`.

    Attributes:
        spec: the architecture.
        encoder_sha256: sha256 of the base weights that it was trained on.
        weights_sha256: sha256 of `adapter.safetensors`.
        knowledge_style: the style of the auxiliary knowledge in training, or None without knowledge.
        training: the recipe's configuration, data hashes, scores and versions, for people; no code reads it.
    """

    format: Literal[1] = 1
    spec: TaggerSpec
    encoder_sha256: str
    weights_sha256: str
    knowledge_style: str | None = None
    training: Mapping[str, Any] = Field(default_factory=dict)


def build_net(spec: TaggerSpec, encoder: Any) -> DualTaggerNet:
    """The net of a specification, around a loaded encoder."""
    sizes = (len(CASES), len(CONTEXTS)) if spec.input.shapes else ()
    if spec.input.marks:
        sizes = (*sizes, len(MARKS), len(HINTS)) if spec.input.hints else (*sizes, len(MARKS))
        sizes = (*sizes, len(FINE_HINTS)) if spec.input.hints and spec.input.fine_hints else sizes
    return DualTaggerNet(
        encoder,
        len(spec.coarse_types),
        len(spec.fine_types),
        beta=spec.beta,
        dropout=spec.dropout,
        bio_constraint=spec.bio_constraint,
        shapes=sizes,
        chars=NUM_CHARS if spec.input.word_letters else 0,
    )


def save_adapter(
    folder: Path, parameters: Mapping[str, Tensor], spec: TaggerSpec, encoder_sha256: str,
    knowledge_style: str | None, training: Mapping[str, Any],
) -> Manifest:  # fmt: skip
    """Write the trained parameters, then the manifest, so that a folder with a manifest is complete."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ADAPTER_FILE
    with atomic_path(file) as partial:
        save_file({name: p.detach().half().contiguous() for name, p in parameters.items()}, partial)
    manifest = Manifest(
        spec=spec,
        encoder_sha256=encoder_sha256,
        weights_sha256=file_sha256(file),
        knowledge_style=knowledge_style,
        training=training,
    )
    atomic_write(folder / MANIFEST_FILE, dump_json(manifest.model_dump(mode="json"), indent=1) + "\n")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an adapter folder.

    Raises:
        NamepinError: E210 when it is missing, E212 when it is invalid.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise NamepinError("E210", "no tagger adapter here", where=str(file), mend="give an adapter's folder")
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise NamepinError(
            "E212", f"not a tagger's manifest: {first['msg']}", where=f"{file}: {'.'.join(map(str, first['loc']))}",
            mend="train the adapter again, or restore its config.json",
        ) from error  # fmt: skip


def load_adapter(folder: Path) -> tuple[DualTaggerNet, RowBuilder, Manifest]:
    """The net of an adapter in eval mode, the row builder it was trained with, and its manifest.

    Raises:
        NamepinError: E210-E213, see docs/errors.md.
    """
    manifest = read_manifest(folder)
    file = folder / ADAPTER_FILE
    tensors = read_safetensors(file)
    if file_sha256(file) != manifest.weights_sha256:
        raise NamepinError(
            "E211", "the adapter's weights are not those of its config.json", where=str(file), mend="copy both again"
        )
    encoder = load_encoder(manifest.spec.encoder)
    if encoder.sha256 != manifest.encoder_sha256:
        raise NamepinError(
            "E212", f"the adapter was trained on other weights of {manifest.spec.encoder}", where=str(folder),
            mend="use the encoder it was trained on, or train it again",
        )  # fmt: skip
    net = build_net(manifest.spec, encoder.model)
    _fill(net, tensors, file)
    net.eval().requires_grad_(False)
    return net, RowBuilder(encoder.tokenizer, manifest.spec.input), manifest


def _fill(net: DualTaggerNet, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Give the net an adapter's parameters. The product of LoRA's factors is added to the weight of their layer.

    Raises:
        NamepinError: E212 for a tensor that does not fit the net, or where a parameter outside the encoder is missing.
    """
    wanted = dict(net.named_parameters())
    for name, tensor in tensors.items():
        if name.endswith(_DOWN) and name.removesuffix(_DOWN) + _UP in tensors:
            continue  # read with the other factor
        layer = name.removesuffix(_UP)
        down = tensors.get(layer + _DOWN)
        place = name if down is None else f"{layer}.weight"
        shape = tensor.shape if down is None else tensor.shape[:1] + down.shape[1:]
        factors_fit = down is None or tensor.shape[1:] == down.shape[:1]
        if place not in wanted or wanted[place].shape != shape or not factors_fit:
            raise NamepinError(
                "E212", f"the adapter's {name} {tuple(tensor.shape)} does not fit its config.json", where=str(file),
                mend="copy both again",
            )  # fmt: skip
        with torch.no_grad():
            if down is None:
                wanted[place].copy_(tensor)
            else:
                wanted[place].add_(tensor.float() @ down.float())
    missing = [n for n in wanted if n not in tensors and not n.startswith("encoder.")]
    if missing:
        raise NamepinError("E212", f"the adapter lacks {missing[0]}", where=str(file), mend="copy it again")
