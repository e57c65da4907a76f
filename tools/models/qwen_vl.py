"""Qwen2.5-VL and Qwen3-VL: the net, and its processor of pictures and texts without torchvision.

transformers' own processors of these models also read videos, for which they need torchvision. Here a post has one
picture at most.
"""

from pathlib import Path
from typing import Any

from transformers import ProcessorMixin
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from namepin.tools.errors import NamepinError
from namepin.tools.loading.config import Placement
from namepin.tools.loading.placement import load_on_device
from namepin.tools.loading.pretrained import load_tokenizer, read_json
from namepin.tools.loading.quiet import quiet_transformers

KINDS = ("qwen2_5_vl", "qwen3_vl")
"""The `model_type`s that can be loaded."""

_KNOWN = (
    "min_pixels",
    "max_pixels",
    "size",
    "patch_size",
    "temporal_patch_size",
    "merge_size",
    "image_mean",
    "image_std",
)
"""The settings of pictures that are read from a folder."""

PICTURE = "<|image_pad|>"
"""The placeholder of one merged patch; the chat template writes one per picture."""


class PictureTextProcessor(ProcessorMixin):
    """Turns pictures and texts into the net's input, as `Qwen2_5_VLProcessor` and `Qwen3VLProcessor` do."""

    return_mm_token_type_ids = True

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self.image_token = PICTURE
        self.image_token_id = tokenizer.convert_tokens_to_ids(PICTURE)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)  # type: ignore[no-untyped-call]

    def replace_image_token(self, image_inputs: Any, image_idx: int, **settings: Any) -> str:
        """The placeholders of a picture: one per merged patch."""
        patches = int(image_inputs["image_grid_thw"][image_idx].prod())
        return PICTURE * (patches // int(self.image_processor.merge_size) ** 2)


def load_processor(folder: Path, vocabulary: int) -> PictureTextProcessor:
    """The processor of a transformers folder.

    Args:
        folder: the model's folder.
        vocabulary: number of rows of the model's embeddings.

    Raises:
        NamepinError: E210 or E211 for a missing or damaged file, E218 for a tokenizer of another model or without a
            chat template.
    """
    with quiet_transformers():
        tokenizer = load_tokenizer(str(folder), vocabulary)
    template = _chat_template(folder) or tokenizer.chat_template
    if PICTURE not in tokenizer.get_vocab() or not template:
        lacks = "chat template" if template is None else f"token {PICTURE}"
        mend = "use the tokenizer that belongs to the weights"
        raise NamepinError("E218", f"the tokenizer has no {lacks}", where=str(folder), mend=mend)
    settings = _picture_settings(folder)
    image_processor: Any = Qwen2VLImageProcessorPil(**{key: settings[key] for key in _KNOWN if settings.get(key)})
    return PictureTextProcessor(image_processor, tokenizer, template)


def _picture_settings(folder: Path) -> dict[str, Any]:
    """What `preprocessor_config.json` or `processor_config.json` says of pictures."""
    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    described = read_json(folder / "processor_config.json")
    settings: dict[str, Any] = described.get("image_processor", described)
    return settings


def _chat_template(folder: Path) -> str | None:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text("utf-8")
    if (folder / "chat_template.json").is_file():
        return str(read_json(folder / "chat_template.json").get("chat_template") or "") or None
    return None


def load_qwen_vl(placement: Placement, folder: Path) -> Any:
    """A Qwen2.5-VL or Qwen3-VL on the device of the settings, without gradients.

    Raises:
        NamepinError: as `namepin.tools.loading.placement.load_on_device`.
    """
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

    mend = "take a Qwen2.5-VL or Qwen3-VL in transformers' form, such as Qwen/Qwen2.5-VL-7B-Instruct"
    kind = read_json(folder / "config.json").get("model_type")
    loader: Any = Qwen3VLForConditionalGeneration if kind == "qwen3_vl" else Qwen2_5_VLForConditionalGeneration
    return load_on_device(placement, loader, folder, kind=kind if kind in KINDS else KINDS[0], mend=mend)
