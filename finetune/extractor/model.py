"""The extractor's net and processor for training: LoRA on its language model, new or from an earlier run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from namepin.finetune.extractor.quiet import quiet_checkpointing
from namepin.finetune.loop.lora import LANGUAGE, Layers, lora_settings, save_lora
from namepin.finetune.loop.run_folder import require_finite_weights
from namepin.finetune.recipes.extractor import ExtractorTraining, SftRecipe
from namepin.finetune.reranker import save_whole
from namepin.tools.extractor.local import UNITS
from namepin.tools.llm.box_frames import Frame
from namepin.tools.loading.adapters import SETTINGS, Base, check_base, fill_adapter, read_adapter_manifest
from namepin.tools.loading.config import Placement
from namepin.tools.loading.pretrained import locate, read_json, weights_sha256
from namepin.tools.models.qwen_vl import PictureTextProcessor, load_processor, load_qwen_vl

LAYERS = Layers(LANGUAGE.adapted, spared=r".*\.visual\..*")
"""LoRA's layers: those of the language model; the picture's encoder is frozen."""


class ExtractorModel:
    """A base model with its trained layers.

    Attributes:
        recipe: the recipe, with rank and alpha of the adapter that it starts from.
        net: a `PeftModel`, or the base itself where all weights are trained.
        processor: of pictures and texts.
    """

    def __init__(self, recipe: ExtractorTraining) -> None:
        """Load the weights, and put LoRA on.

        Raises:
            NamepinError: E210 to E219 for weights and adapters, E301 without bitsandbytes.
        """
        folder = locate(recipe.weights)
        names = ("device", "dtype", "quantization")
        base: Any = load_qwen_vl(Placement(**{name: getattr(recipe, name) for name in names}), folder)
        base.set_attn_implementation("sdpa")  # exact attention is for the tool; training needs its memory
        self.processor: PictureTextProcessor = load_processor(folder, base.config.text_config.vocab_size)
        pictures: Any = self.processor.image_processor
        pictures.size = {"shortest_edge": recipe.min_pixels, "longest_edge": recipe.max_pixels}
        self.factor: int = pictures.patch_size * pictures.merge_size
        self.unit: Frame = recipe.frame if recipe.frame != "auto" else UNITS[base.config.model_type]
        lora: Any = _settings_of(recipe, folder) if recipe.start else {}
        self.recipe = replace(recipe, **lora)
        self.whole = isinstance(recipe, SftRecipe) and recipe.whole
        self.net: Any = base.float().requires_grad_(True) if self.whole else self._with_lora(base)

    def _with_lora(self, base: Any) -> Any:
        torch.manual_seed(self.recipe.seed)
        settings: Any = lora_settings(base, self.recipe, LAYERS)
        with quiet_checkpointing():
            net: Any = get_peft_model(base, LoraConfig(lora_dropout=self.recipe.dropout, **settings))
        if self.recipe.start:
            fill_adapter(base, Path(self.recipe.start))
        return net

    def full_precision(self) -> None:
        """Give the trained weights float32: 16-bit weights would lose AdamW's small steps. trl casts those of QLoRA."""
        for parameter in self.net.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    def save(self, folder: Path, out: Path) -> None:
        """An adapter for `extractor.adapter`, or, with `whole`, a folder for `extractor.weights`.

        Raises:
            NamepinError: E220 for weights that are not finite.
        """
        require_finite_weights(self.net, out)
        if self.whole:
            save_whole(self.net, self.processor.tokenizer, locate(self.recipe.weights), folder)
        else:
            save_lora(self.net.get_base_model(), self.recipe, LAYERS, folder, "extract")


def _settings_of(recipe: ExtractorTraining, folder: Path) -> dict[str, int]:
    """Rank and alpha of the adapter that a recipe starts from.

    Raises:
        NamepinError: E210, E211 for a missing or damaged adapter, E219 for one of another task or base.
    """
    start = Path(recipe.start)
    manifest = read_adapter_manifest(start)
    check_base(
        manifest, "extract", Base(weights=recipe.weights, revision=None, sha256=weights_sha256(folder)), str(start)
    )
    return {"rank": manifest.rank, "alpha": int(read_json(start / SETTINGS)["lora_alpha"])}
