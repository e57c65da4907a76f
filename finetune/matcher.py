"""Train the matcher: `namepin finetune matcher`, on a data set's gold mentions; BLIP, BLIP-2 or LLaVA.

A mention that the annotators found in the picture is a match; any other mention is not (GEM section 3.4.1). The text is
the matcher's own, `ENTITY is belong CATEGORY.` The loss is the cross-entropy of the two logits that the tool reads.
For BLIP and BLIP-2 these are the logits of the matching head; for LLaVA, the logits of "No" and "Yes" as the answer's
first token (section 5.2).
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from namepin.finetune.attention_loss import AttentionLoss
from namepin.finetune.data.mentions import Pictures, in_picture, read_split, require_both_classes, shuffle_rows
from namepin.finetune.data.rows import MentionRow
from namepin.finetune.loop.lora import LANGUAGE, save_lora, with_lora
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.loop.trainer import Run
from namepin.finetune.recipes.matcher import Blip2MatcherRecipe, LlavaMatcherRecipe, MatcherRecipe, MatcherTraining
from namepin.tools.images.load import load_image
from namepin.tools.images.tensors import squash
from namepin.tools.loading.pretrained import locate, weights_sha256
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.matcher.blip2 import load_blip2_matcher
from namepin.tools.matcher.config import Blip2Config, LlavaConfig
from namepin.tools.matcher.feature_model import FeatureModel
from namepin.tools.matcher.llava import load_llava_matcher
from namepin.tools.media import Media
from namepin.tools.models.blip import match_texts
from namepin.tools.models.blip_checkpoint import load_blip
from namepin.tools.models.config import BlipConfig
from namepin.tools.models.match_texts import Texts


class MatcherRows:
    """The rows of every backend."""

    name = "matcher"

    def __init__(self, recipe: MatcherTraining) -> None:
        """Read the data.

        Raises:
            NamepinError: E120 to E139.
        """
        train, dev = read_split(recipe, recipe.train, limit=recipe.limit), read_split(recipe, recipe.dev)
        self.train, self.dev, self.data = train.rows, dev.rows, {**train.data, **dev.data}
        self.trained_posts = train.trained_posts
        self.by_image: dict[str, list[MentionRow]] = {}
        for row in self.train:
            self.by_image.setdefault(row.image, []).append(row)
        self._negatives, self._alike = recipe.negatives, recipe.alike
        require_both_classes(train, negatives=recipe.negatives > 0)
        require_both_classes(dev)

    def rows(self, rng: random.Random) -> Sequence[MentionRow]:
        """The mentions, and `negatives` rows per mention with another post's name, which is not in the picture."""
        count = int(len(self.train) * self._negatives)
        added = [self._other(rng.choice(self.train), rng) for _ in range(count)]
        return shuffle_rows([*self.train, *added], rng, lambda row: row.image)

    def _other(self, row: MentionRow, rng: random.Random) -> MentionRow:
        named = {other.query.text for other in self.by_image[row.image]}
        wanted = {row.query.category} if rng.random() < self._alike else set()
        theirs = {other.query.category for other in self.by_image[row.image]}
        for other in rng.sample(self.train, min(len(self.train), 200)):
            kind, name = other.query.category, other.query.text
            if name not in named and (kind in wanted if wanted else kind not in theirs):
                return replace(row, query=other.query, boxes=(), masks=())
        return row


class MatcherTask(MatcherRows, Task):
    """BLIP with its rows."""

    def __init__(self, recipe: MatcherRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E210 to E218 weights, E120 to E139 data.
        """
        super().__init__(recipe)
        self.parts = BlipParts(recipe.weights, recipe.tokenizer, recipe.attend)
        self.net: nn.Module = self.parts.net

    def collate(self, rows: list[MentionRow]) -> Batch:
        """Pictures, texts and whether they match."""
        return self.parts.batch(rows, self.parts.texts([row.query for row in rows]))

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of the ITM head, plus the loss of `namepin.finetune.attention_loss` if `attend` is set."""
        return functional.cross_entropy(itm_logits(net, batch), batch["labels"]) + self.parts.attention_loss(batch)

    def score(self) -> dict[str, float]:
        """F1 of "in the picture" on dev, and its parts, at P_T of one half."""
        return in_picture(self.dev, lambda rows: itm_logits(self.net, self._here(rows)).argmax(-1) == 1)

    def _here(self, rows: Sequence[MentionRow]) -> Batch:
        device = next(self.net.parameters()).device
        return {key: value.to(device) for key, value in self.collate(list(rows)).items()}

    def save(self, folder: Path) -> None:
        """A folder for `matcher.blip.weights`, which the tracer follows."""
        self.parts.save(folder)


class BlipParts:
    """A BLIP to train, its pictures and texts."""

    def __init__(self, weights: str, tokenizer: str, attend: float = 0.0) -> None:
        """Load the weights.

        Args:
            weights: a folder, an original file, or a name on the hub.
            tokenizer: for an original file.
            attend: weight of the loss of `namepin.finetune.attention_loss`.

        Raises:
            NamepinError: E210 to E218, see `namepin.tools.models.blip_checkpoint`.
        """
        path, config = locate(weights), BlipConfig(weights=weights, tokenizer=tokenizer)
        sha256, eps = weights_sha256(path), config.vision_norm_eps
        self._checkpoint = load_blip(path, sha256, tokenizer=tokenizer, vision_norm_eps=eps)
        self.net = self._checkpoint.net
        side, mean, std = self.net.config.vision_config.image_size, self._checkpoint.mean, self._checkpoint.std
        self.pictures = Pictures(lambda image: squash(image, side, mean, std))
        self.texts = match_texts(config, self.net, self._checkpoint.tokenizer, torch.device("cpu"))
        self._attend, self._attention_loss = attend, AttentionLoss(self.net) if attend else None

    def batch(self, rows: Sequence[MentionRow], texts: Texts) -> dict[str, Tensor]:
        """Pictures, texts, and whether each row's mention is in its picture, for `itm_logits`."""
        pixels, which = self.pictures(rows)
        labels = torch.tensor([int(row.groundable) for row in rows])
        batch = {"pixels": pixels, "which": which, "ids": texts.ids, "mask": texts.mask, "labels": labels}
        return batch | ({"regions": self._attention_loss.regions(rows)} if self._attention_loss else {})

    def attention_loss(self, batch: Batch) -> Tensor | float:
        """The weighted attention loss of the last forward pass; 0 unless `attend` is set."""
        return self._attend * self._attention_loss.loss(batch) if self._attention_loss else 0.0

    def save(self, folder: Path) -> None:
        """A transformers folder, with the mean and deviation of its pictures."""
        save_folder(self.net, self._checkpoint.tokenizer, (self._checkpoint.mean, self._checkpoint.std), folder)


def save_folder(net: Any, tokenizer: Any, mean_std: tuple[Sequence[float], Sequence[float]], folder: Path) -> None:
    """A transformers folder of a net with its tokenizer, and the mean and deviation of its pictures' channels."""
    with quiet_transformers():
        net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {"image_mean": list(mean_std[0]), "image_std": list(mean_std[1])}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")


def itm_logits(net: Any, batch: Batch) -> Tensor:
    """(rows, 2): logits of no match and match. Every picture is encoded once."""
    states_of_picture = net.vision_model(batch["pixels"]).last_hidden_state[batch["which"]]
    states = net.text_encoder(
        input_ids=batch["ids"], attention_mask=batch["mask"], encoder_hidden_states=states_of_picture
    ).last_hidden_state
    logits: Tensor = net.itm_head(states[:, 0])
    return logits


class FeatureMatcherTask(MatcherRows, Task):
    """Shared by BLIP-2 and LLaVA: a frozen vision encoder, and a trained part that reads its output."""

    net: nn.Module
    model: FeatureModel

    def collate(self, rows: list[MentionRow]) -> Batch:
        """Queries with their pictures, and whether each matches."""
        loaded = {row.image: load_image(row.image) for row in rows}
        return {
            "queries": [row.query for row in rows],
            "images": [loaded[row.image].ref for row in rows],
            "media": Media(images={one.ref.sha256: one.image for one in loaded.values()}),
            "labels": torch.tensor([int(row.groundable) for row in rows]),
        }

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of the two logits that the tool reads."""
        return functional.cross_entropy(self._logits(batch).float(), batch["labels"])

    def _logits(self, batch: Batch) -> Tensor:
        # The vision encoder runs as in the tool, whatever precision the rest is trained in.
        with torch.autocast(self.model.net.device.type, enabled=False):
            features = torch.cat([self.model.features(image, batch["media"]) for image in batch["images"]])
        return self.model.scores(features, batch["queries"])

    def score(self) -> dict[str, float]:
        """F1 of "in the picture" on dev, and its parts, at P_T of one half."""
        return in_picture(self.dev, lambda rows: self._logits(self.collate(list(rows))).argmax(-1) == 1)


class Blip2MatcherTask(FeatureMatcherTask):
    """BLIP-2 with its rows."""

    def __init__(self, recipe: Blip2MatcherRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E210 to E218 weights, E120 to E139 data.
        """
        super().__init__(recipe)
        config, path = Blip2Config(weights=recipe.weights), locate(recipe.weights)
        self.model = self._blip2 = load_blip2_matcher(config, path, weights_sha256(path))
        net: Any = self._blip2.net
        self.net = net
        for part in (net.qformer, net.embeddings, net.itm_head, net.query_tokens):
            part.requires_grad_(True)

    def save(self, folder: Path) -> None:
        """A folder for `matcher.blip2.weights`, which the tracer follows."""
        save_folder(self.net, self._blip2.tokenizer, self._blip2.mean_std, folder)


class LlavaMatcherTask(FeatureMatcherTask):
    """LLaVA with LoRA and its rows."""

    def __init__(self, recipe: LlavaMatcherRecipe) -> None:
        """Load weights and data, and put LoRA on.

        Raises:
            NamepinError: E210 to E218 weights, E120 to E139 data, E301 without peft.
        """
        super().__init__(recipe)
        self.recipe = recipe
        config, path = LlavaConfig(weights=recipe.weights, dtype=recipe.dtype), locate(recipe.weights)
        self.model = load_llava_matcher(config, path, weights_sha256(path))
        self.net = with_lora(self.model.net, recipe, LANGUAGE)

    def save(self, folder: Path) -> None:
        """An adapter for `matcher.llava.adapter`, which the tracer follows."""
        save_lora(self.net, self.recipe, LANGUAGE, folder, "match")


_TASKS: Mapping[type, Any] = {
    MatcherRecipe: MatcherTask,
    Blip2MatcherRecipe: Blip2MatcherTask,
    LlavaMatcherRecipe: LlavaMatcherTask,
}


def train(recipe: MatcherTraining, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's weights are then in `out/weights`."""
    return Run(recipe, _TASKS[type(recipe)](recipe)).run(resume)
