"""Train the matcher: `namepin finetune matcher`. BLIP's image-text matching head on a data set's gold mentions.

A mention that the annotators found in the picture is a match, any other is none (GEM section 3.4.1); the text is the
one that the matcher asks about, `ENTITY is belong CATEGORY.`
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from finetune.training import Batch, Run, Share
from finetune.visual_data import Pictures, Seen, VisualTraining, both_classes, in_picture, read_split, shuffled
from tools.blip import BlipConfig, match_texts
from tools.blip_checkpoint import load_blip
from tools.match_texts import Texts
from tools.preprocess import squash
from tools.pretrained import locate, quiet_transformers, weights_sha256


@dataclass(frozen=True, kw_only=True)
class MatcherRecipe(VisualTraining):
    """GEM's settings (appendix: one epoch at 5e-5); what the paper is silent about is marked ours.

    Attributes:
        weights: the BLIP to begin with: a folder, an original `.pth` file, or a name on the hub.
        tokenizer: for an original file, which brings none.
        negatives: for every mention, so many of other posts, as no match; ours, off.
        alike: of those, the share that has the mention's own type; of the others, no mention of the post has it.
    """

    backend: Literal["blip"] = "blip"
    out: str = "out/matcher"
    lr: float = 5e-5
    epochs: int = 1
    weights: str = "Salesforce/blip-itm-large-coco"
    tokenizer: str = "google-bert/bert-base-uncased"
    negatives: Annotated[float, Field(ge=0, le=10)] = 0.0
    alike: Share = 1.0


class MatcherTask:
    """BLIP with its rows (`finetune.training.Task`)."""

    name = "matcher"

    def __init__(self, recipe: MatcherRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E210 to E218 weights, E120 to E139 data.
        """
        self.recipe = recipe
        train, dev = read_split(recipe, recipe.train), read_split(recipe, recipe.dev)
        self.train, self.dev, self.data = train.rows, dev.rows, {**train.data, **dev.data}
        self.by_image: dict[str, list[Seen]] = {}
        for row in self.train:
            self.by_image.setdefault(row.image, []).append(row)
        if not recipe.negatives:
            both_classes(self.train, recipe.root)
        self.parts = BlipParts(recipe.weights, recipe.tokenizer)
        self.net: nn.Module = self.parts.net

    def rows(self, rng: random.Random) -> Sequence[Seen]:
        """The mentions, and `negatives` of them with another post's name, which is not in the picture."""
        count = int(len(self.train) * self.recipe.negatives)
        added = [self._other(rng.choice(self.train), rng) for _ in range(count)]
        return shuffled([*self.train, *added], rng, lambda row: row.image)

    def _other(self, row: Seen, rng: random.Random) -> Seen:
        named = {other.query.text for other in self.by_image[row.image]}
        wanted = {row.query.category} if rng.random() < self.recipe.alike else set()
        theirs = {other.query.category for other in self.by_image[row.image]}
        for other in rng.sample(self.train, min(len(self.train), 200)):
            kind, name = other.query.category, other.query.text
            if name not in named and (kind in wanted if wanted else kind not in theirs):
                return replace(row, query=other.query, boxes=(), masks=())
        return row

    def collate(self, rows: list[Seen]) -> Batch:
        """Pictures, texts and whether they match."""
        return self.parts.batch(rows, self.parts.texts([row.query for row in rows]))

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of the ITM head."""
        return functional.cross_entropy(itm_logits(net, batch), batch["labels"])

    def score(self) -> dict[str, float]:
        """F1 of "in the picture" on dev, and its parts, at P_T of one half."""
        return in_picture(self.dev, lambda rows: itm_logits(self.net, self._here(rows)).argmax(-1) == 1)

    def _here(self, rows: Sequence[Seen]) -> Batch:
        device = next(self.net.parameters()).device
        return {key: value.to(device) for key, value in self.collate(list(rows)).items()}

    def save(self, folder: Path) -> None:
        """A folder for `matcher.blip.weights` and `tracer.blip.weights`."""
        self.parts.save(folder)


class BlipParts:
    """A BLIP to train, its pictures and texts."""

    def __init__(self, weights: str, tokenizer: str) -> None:
        """Load the weights.

        Raises:
            NamepinError: E210 to E218, see `tools.blip_checkpoint`.
        """
        path, config = locate(weights), BlipConfig(weights=weights, tokenizer=tokenizer)
        sha256, eps = weights_sha256(path), config.vision_norm_eps
        self._checkpoint = load_blip(path, sha256, tokenizer=tokenizer, vision_norm_eps=eps)
        self.net = self._checkpoint.net
        side, mean, std = self.net.config.vision_config.image_size, self._checkpoint.mean, self._checkpoint.std
        self.pictures = Pictures(lambda image: squash(image, side, mean, std))
        self.texts = match_texts(config, self.net, self._checkpoint.tokenizer, torch.device("cpu"))

    def batch(self, rows: Sequence[Seen], texts: Texts) -> dict[str, Tensor]:
        """Pictures, texts, and whether each row's mention is in its picture, for `itm_logits`."""
        pixels, which = self.pictures(rows)
        labels = torch.tensor([int(row.groundable) for row in rows])
        return {"pixels": pixels, "which": which, "ids": texts.ids, "mask": texts.mask, "labels": labels}

    def save(self, folder: Path) -> None:
        """A transformers folder, with the mean and deviation of its pictures."""
        with quiet_transformers():
            self.net.save_pretrained(folder)
        self._checkpoint.tokenizer.save_pretrained(folder)
        told = {"image_mean": list(self._checkpoint.mean), "image_std": list(self._checkpoint.std)}
        (folder / "preprocessor_config.json").write_text(json.dumps(told) + "\n", encoding="utf-8")


def itm_logits(net: Any, batch: Batch) -> Tensor:
    """(rows, 2): no match, match; every picture is encoded once."""
    seen = net.vision_model(batch["pixels"]).last_hidden_state[batch["which"]]
    states = net.text_encoder(
        input_ids=batch["ids"], attention_mask=batch["mask"], encoder_hidden_states=seen
    ).last_hidden_state
    logits: Tensor = net.itm_head(states[:, 0])
    return logits


RECIPES = {"blip": MatcherRecipe}


def train(recipe: MatcherRecipe, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's weights are then in `out/weights`."""
    return Run(recipe, MatcherTask(recipe)).run(resume)
