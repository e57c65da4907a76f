"""Train visual entailment: `namepin finetune entailment`, on OFA, ALBEF or BLIP.

A picture entails a referring expression if the annotators found the mention in the picture. Otherwise it contradicts
the expression. There is no third class (RiVEG section IV-C1).
"""

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from namepin.finetune.data.mentions import Pictures, in_picture, read_split, require_both_classes, shuffle_rows
from namepin.finetune.data.ofa import OfaParts, read
from namepin.finetune.data.rows import MentionRow
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.loop.trainer import Run
from namepin.finetune.matcher import BlipParts, itm_logits
from namepin.finetune.recipes.entailment import (
    AlbefEntailmentRecipe,
    BlipEntailmentRecipe,
    EntailmentTraining,
    OfaEntailmentRecipe,
)
from namepin.tools.entailment.albef import pad, sentence_ids
from namepin.tools.entailment.config import Spelling
from namepin.tools.entailment.ofa import ANSWERS, QUESTION, WITHOUT_CAPTION, answer_scores
from namepin.tools.images.tensors import squash
from namepin.tools.loading.pretrained import locate
from namepin.tools.models.albef_checkpoint import albef_to_train, save_albef
from namepin.tools.models.ofa import as_in_riveg
from namepin.tools.models.ofa_vocabulary import BEGIN, END


class EntailmentTask(Task):
    """Code that the three backends share."""

    name = "entailment"

    def __init__(self, recipe: EntailmentTraining, captions: str = "", dev_captions: str = "") -> None:
        """Read the data.

        Raises:
            NamepinError: E120 to E139.
        """
        train = read_split(
            recipe,
            recipe.train,
            limit=recipe.limit,
            captions=captions,
            expansions=recipe.expansions,
            reading=recipe.text,
        )
        known = [recipe.dev_expansions] if recipe.dev_expansions else []
        dev = read_split(recipe, recipe.dev, captions=dev_captions, expansions=known, reading=recipe.text, mixed=False)
        self.train, self.dev, self.data = train.rows, dev.rows, {**train.data, **dev.data}
        self.trained_posts = train.trained_posts
        require_both_classes(train)
        require_both_classes(dev)

    def rows(self, rng: random.Random) -> Sequence[MentionRow]:
        """The mentions."""
        return shuffle_rows(self.train, rng, lambda row: row.image)

    @abstractmethod
    def logits(self, net: nn.Module, batch: Batch) -> Tensor:
        """(rows, 2): contradiction, entailment."""

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of the two classes."""
        return functional.cross_entropy(self.logits(net, batch), batch["labels"])

    def score(self) -> dict[str, float]:
        """F1, precision and recall of entailment on dev."""
        device = next(self.net.parameters()).device

        def judge(rows: Sequence[MentionRow]) -> Tensor:
            batch = {key: value.to(device) for key, value in self.collate(list(rows)).items()}
            return self.logits(self.net, batch).argmax(-1) == 1

        return in_picture(self.dev, judge)


class OfaEntailmentTask(EntailmentTask):
    """OFA: yes or no after the question, constrained by a trie."""

    def __init__(self, recipe: OfaEntailmentRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E120 to E139 data, E210 to E218 weights.
        """
        super().__init__(recipe, recipe.captions, recipe.dev_captions)
        self.parts = OfaParts(
            recipe.weights, recipe.tokenizer, recipe.image_size, dropout=recipe.dropout, drop_path=recipe.drop_path
        )
        self.net = self.parts.net
        self._answers = [(*self.parts.vocabulary.ids(answer), END) for answer in reversed(ANSWERS)]

    def collate(self, rows: list[MentionRow]) -> Batch:
        """Pictures, questions and labels."""
        prompts = [self._prompt(row) for row in rows]
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        return {**self.parts.questions(rows, prompts), "lengths": lengths, "labels": labels_of(rows)}

    def _prompt(self, row: MentionRow) -> list[int]:
        words = self.parts.vocabulary
        caption = words.normalise_text(row.caption or "")[0]
        question = QUESTION if any(map(str.isalnum, caption)) else WITHOUT_CAPTION
        expression = words.normalise_text(as_in_riveg(row.expression))[0]
        return [BEGIN, *words.ids(question.format(expression=expression, caption=caption)), END]

    def logits(self, net: nn.Module, batch: Batch) -> Tensor:
        """Log-probabilities of " no" and " yes", among the tokens that the trie allows."""
        starts = [row[: length - 1].tolist() for row, length in zip(batch["ids"], batch["lengths"], strict=True)]
        ofa: Any = net
        return answer_scores(ofa, read(net, batch), starts, self._answers)

    def save(self, folder: Path) -> None:
        """A folder for `entailment.ofa.weights`."""
        self.parts.save(folder)


class AlbefEntailmentTask(EntailmentTask):
    """ALBEF: the first and the last class of its head."""

    def __init__(self, recipe: AlbefEntailmentRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E120 to E139 data, E210 to E218 weights.
        """
        super().__init__(recipe)
        path = locate(recipe.weights)
        self.net, self._words = albef_to_train(path, tokenizer=recipe.tokenizer, image_size=recipe.image_size)
        self._sizes = self.net.sizes
        self._pictures = Pictures(lambda image: squash(image, recipe.image_size))

    def collate(self, rows: list[MentionRow]) -> Batch:
        """Pictures, sentences and labels."""
        spelling: Spelling = "albef" if self._sizes.kinds else "lavis"
        sentences = [
            sentence_ids(row.expression, self._words, spelling, self._sizes.positions, None)[0] for row in rows
        ]
        ids, mask = pad(sentences, int(self._words.pad_token_id))
        pixels, which = self._pictures(rows)
        return {"pixels": pixels, "which": which, "ids": ids, "mask": mask, "labels": labels_of(rows)}

    def logits(self, net: nn.Module, batch: Batch) -> Tensor:
        """Logits of contradiction and entailment."""
        albef: Any = net
        every: Tensor = albef(albef.encode(batch["pixels"])[batch["which"]], batch["ids"], batch["mask"])
        return every[:, [0, -1]]

    def save(self, folder: Path) -> None:
        """A folder for `entailment.weights`."""
        net: Any = self.net
        save_albef(net, self._words, folder)


class BlipEntailmentTask(EntailmentTask):
    """BLIP's image-text matching head, asked about the whole expression."""

    def __init__(self, recipe: BlipEntailmentRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E120 to E139 data, E210 to E218 weights.
        """
        super().__init__(recipe)
        self.parts = BlipParts(recipe.weights, recipe.tokenizer, recipe.attend)
        self.net = self.parts.net

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of the two classes, plus the loss of `namepin.finetune.attention_loss` if `attend` is set."""
        return super().loss(net, batch) + self.parts.attention_loss(batch)

    def collate(self, rows: list[MentionRow]) -> Batch:
        """Pictures, expressions and labels."""
        return self.parts.batch(rows, self.parts.texts.plain([row.expression for row in rows])[0])

    def logits(self, net: nn.Module, batch: Batch) -> Tensor:
        """Logits of the ITM head."""
        return itm_logits(net, batch)

    def save(self, folder: Path) -> None:
        """A folder for `entailment.blip.weights`."""
        self.parts.save(folder)


def labels_of(rows: Sequence[MentionRow]) -> Tensor:
    """Labels: 1 for a mention in the picture, else 0."""
    return torch.tensor([int(row.groundable) for row in rows])


_TASKS: Mapping[type, Any] = {
    OfaEntailmentRecipe: OfaEntailmentTask,
    AlbefEntailmentRecipe: AlbefEntailmentTask,
    BlipEntailmentRecipe: BlipEntailmentTask,
}


def train(recipe: EntailmentTraining, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's weights are then in `out/weights`."""
    return Run(recipe, _TASKS[type(recipe)](recipe)).run(resume)
