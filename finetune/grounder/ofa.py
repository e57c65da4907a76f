"""Train the grounder: `namepin finetune grounder`. OFA's visual grounding on the mentions that are in their pictures.

OFA's answer is four bins and the end token. Of several gold boxes only the largest counts (RiVEG section IV-C2). The
other backend, `mmgdino`, is in `namepin.finetune.grounder.mmgdino`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from namepin.finetune.data.mentions import jitter_box, read_boxed_rows, shuffle_rows
from namepin.finetune.data.ofa import OfaParts, read
from namepin.finetune.data.rows import MentionRow
from namepin.finetune.grounder.mmgdino import MmGroundingDinoTask
from namepin.finetune.grounder.seqtr import SeqtrTask
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.loop.trainer import Run
from namepin.finetune.recipes.grounder import MmGroundingDinoRecipe, OfaGrounderRecipe, SeqtrRecipe
from namepin.finetune.recipes.visual import VisualTraining
from namepin.tools.geometry import box_iou
from namepin.tools.grounder.ofa import QUESTION
from namepin.tools.images.load import load_image
from namepin.tools.models.ofa import as_in_riveg
from namepin.tools.models.ofa_boxes import NOWHERE, bins_of, box_of
from namepin.tools.models.ofa_vocabulary import BEGIN, END
from namepin.tools.nets.ofa import continuations


class OfaGrounderTask(Task):
    """OFA with the mentions that have a box."""

    name = "grounder"

    def __init__(self, recipe: OfaGrounderRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E210 to E218 weights, E120 to E139 data.
        """
        self.recipe = recipe
        self.train, self.dev, self.data, self.trained_posts = read_boxed_rows(
            recipe,
            expansions=recipe.expansions,
            dev_expansions=recipe.dev_expansions,
            reading=recipe.text,
            ungroundable=recipe.ungroundable,
        )
        self.parts = OfaParts(
            recipe.weights, recipe.tokenizer, recipe.image_size, dropout=recipe.dropout, drop_path=recipe.drop_path
        )
        self.net: nn.Module = self.parts.net
        self.sizes = {row.image: load_image(row.image).image.size for row in (*self.train, *self.dev)}

    def rows(self, rng: random.Random) -> Sequence[MentionRow]:
        """The mentions, their target boxes moved a little if the recipe has `jitter`."""
        rows = shuffle_rows(self.train, rng, lambda row: row.image)
        if not self.recipe.jitter:
            return rows
        most = self.recipe.jitter
        return [replace(row, boxes=(jitter_box(row.largest, most, rng),)) if row.boxes else row for row in rows]

    def collate(self, rows: list[MentionRow]) -> Batch:
        """Pictures, questions, and the bins of the answers."""
        answers = [self._bins(row) for row in rows]
        targets = [[*(self.parts.vocabulary.first_bin + place for place in bins), END] for bins in answers]
        return {**self._questions(rows), "targets": torch.tensor(targets)}

    def _bins(self, row: MentionRow) -> tuple[int, int, int, int]:
        return bins_of(row.largest, *self.sizes[row.image], self.parts.vocabulary.bins) if row.boxes else NOWHERE

    def _questions(self, rows: Sequence[MentionRow]) -> dict[str, Tensor]:
        words = self.parts.vocabulary
        spelled = [words.normalise_text(as_in_riveg(row.expression))[0] for row in rows]
        prompts = [[BEGIN, *words.ids(QUESTION.format(expression=text)), END] for text in spelled]
        return self.parts.questions(rows, prompts)

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of the four bins and the end token, over the whole vocabulary."""
        ofa: Any = net
        targets = batch["targets"]
        before = torch.cat([torch.full_like(targets[:, :1], BEGIN), targets[:, :-1]], dim=1)
        states, _ = ofa.decode(before, read(ofa, batch))
        return functional.cross_entropy(
            ofa.logits(states).flatten(0, 1), targets.flatten(), label_smoothing=self.recipe.smoothing
        )

    def score(self) -> dict[str, float]:
        """Prec@0.5 on dev: the share of mentions whose best beam has an IoU of 0.5 or more with a gold box.

        A mention without a gold box is right when the tool returns no box.
        """
        net, words = self.parts.net, self.parts.vocabulary
        device = next(net.parameters()).device
        bins = words.bin_ids().to(device)
        places = [bins, bins, bins, bins, torch.tensor([END], device=device)]
        found, overlap = 0, 0.0
        for at in range(0, len(self.dev), 16):
            rows = self.dev[at : at + 16]
            batch = {key: value.to(device) for key, value in self._questions(rows).items()}
            beams = continuations(net, read(net, batch), BEGIN, places, self.recipe.beams)
            for row, best in zip(rows, beams.tokens[:, 0].tolist(), strict=True):
                box = box_of([token - words.first_bin for token in best[:4]], *self.sizes[row.image], words.bins)
                most = max((box_iou(box, gold) for gold in row.boxes), default=0.0) if box else float(not row.boxes)
                found, overlap = found + (most >= 0.5), overlap + most
        return {"prec@0.5": found / len(self.dev), "iou": overlap / len(self.dev)}

    def save(self, folder: Path) -> None:
        """A folder for `grounder.ofa.weights`."""
        self.parts.save(folder)


_TASKS: Mapping[type, Any] = {
    OfaGrounderRecipe: OfaGrounderTask,
    MmGroundingDinoRecipe: MmGroundingDinoTask,
    SeqtrRecipe: SeqtrTask,
}


def train(recipe: VisualTraining, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's weights are then in `out/weights`."""
    return Run(recipe, _TASKS[type(recipe)](recipe)).run(resume)
