"""Train SeqTR as grounder: `namepin finetune grounder --set backend=seqtr`, on the mentions that have a box.

The answer is four bins of the padded picture and the end token; the loss is their cross-entropy, given the tokens
before. Of several gold boxes only the largest counts (RiVEG section IV-C2). SeqTR's authors publish no pre-trained
weights, so RiVEG starts from weights tuned on RefCOCO. Outlines (SeqTR's masks) are not trained here.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from namepin.finetune.data.mentions import read_boxed_rows, shuffle_rows
from namepin.finetune.data.rows import MentionRow
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.recipes.grounder import SeqtrRecipe
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import box_iou
from namepin.tools.grounder.seqtr import EncodedPicture, box_of, prepare
from namepin.tools.images.load import load_image
from namepin.tools.loading.pretrained import weights_sha256
from namepin.tools.models.ofa import as_in_riveg
from namepin.tools.models.seqtr_checkpoint import load_seqtr
from namepin.tools.models.seqtr_vocabulary import FILE, normalise_words, rows_of, vocabulary_of
from namepin.tools.nets.seqtr import Memory, Seqtr
from namepin.tools.nets.seqtr.transformer import Pen

NOWHERE = (0, 0, 0, 0)
"""The bins of a mention that is not in the picture (RiVEG, footnote 3)."""


class SeqtrTask(Task):
    """SeqTR for boxes, with a vocabulary of the data's own."""

    name = "grounder"

    def __init__(self, recipe: SeqtrRecipe) -> None:
        """Load data and weights.

        Raises:
            NamepinError: E120 to E139 data; E210 to E218 weights, E217 where they generate outlines.
        """
        self.recipe = recipe
        self.train, self.dev, self.data, self.trained_posts = read_boxed_rows(
            recipe,
            expansions=recipe.expansions,
            dev_expansions=recipe.dev_expansions,
            reading=recipe.text,
            ungroundable=recipe.ungroundable,
        )
        path = Path(recipe.weights)
        if not path.exists():
            mend = "give SeqTR's det_best.pth, tuned on RefCOCO"
            raise NamepinError("E210", "no weights here", where=recipe.weights, mend=mend)
        checkpoint = load_seqtr(path, weights_sha256(path), vocabulary=recipe.vocabulary or None, average=True)
        if checkpoint.net.sizes.corners:
            what = "these weights generate outlines; this recipe trains boxes"
            raise NamepinError("E217", what, where=recipe.weights, mend="start from det_best.pth")
        expressions = [{"expressions": [as_in_riveg(row.expression)]} for row in (*self.train, *self.dev)]
        self.vocabulary = vocabulary_of({"all": expressions})
        torch.manual_seed(recipe.seed)
        self.net: Any = with_vocabulary(checkpoint.net, checkpoint.vocabulary, self.vocabulary).requires_grad_()

    def rows(self, rng: random.Random) -> Sequence[MentionRow]:
        """The mentions; those of a picture stay together."""
        return shuffle_rows(self.train, rng, lambda row: row.image)

    def collate(self, rows: list[MentionRow]) -> Batch:
        """Pictures by size, the words of each row, and its target tokens, in the order of the pictures.

        Returns:
            Lists with an entry per size: `pixels` (pictures, 3, height, width); `which`, each row's picture, (rows,);
            `ids` (rows, words). And `targets`, (all rows, 5).
        """
        by_size: dict[tuple[int, int], dict[str, tuple[Tensor, float, float]]] = {}
        for path in dict.fromkeys(row.image for row in rows):
            seen = prepare(np.asarray(load_image(path).image), self.recipe.image_size)
            by_size.setdefault((seen[0].shape[1], seen[0].shape[2]), {})[path] = seen
        batch: dict[str, Any] = {"pixels": Tensors(), "which": Tensors(), "ids": Tensors()}
        targets = []
        for pictures in by_size.values():
            places = {path: at for at, path in enumerate(pictures)}
            theirs = [row for row in rows if row.image in pictures]
            batch["pixels"].append(torch.stack([pixels for pixels, _, _ in pictures.values()]))
            batch["which"].append(torch.tensor([places[row.image] for row in theirs]))
            batch["ids"].append(torch.tensor([self._ids(row) for row in theirs]))
            targets += [[*self._bins(row, *pictures[row.image][1:]), self.net.sizes.bins] for row in theirs]
        return {**batch, "targets": torch.tensor(targets)}

    def _ids(self, row: MentionRow) -> list[int]:
        words = normalise_words(as_in_riveg(row.expression))
        return rows_of(words or ["UNK"], self.vocabulary, self.recipe.max_words)

    def _bins(self, row: MentionRow, width: float, height: float) -> tuple[int, ...]:
        """The bins of the largest box in a padded picture of (width, height) pixels of the original."""
        if not row.boxes:
            return NOWHERE
        most = self.net.sizes.bins
        return tuple(
            min(max(int(edge / side * most), 0), most - 1)
            for edge, side in zip(row.largest, (width, height) * 2, strict=True)
        )

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of the four bins and the end token, given the tokens before."""
        seqtr: Any = net
        logits = []
        at = 0
        for pixels, which, ids in zip(batch["pixels"], batch["which"], batch["ids"], strict=True):
            memory = read(seqtr, seqtr.look(pixels)[which], ids)
            logits.append(teacher_forced(seqtr, memory, batch["targets"][at : at + len(ids)]))
            at += len(ids)
        flat, targets = torch.cat(logits).flatten(0, 1), batch["targets"].flatten()
        return functional.cross_entropy(flat, targets, label_smoothing=self.recipe.smoothing)

    def score(self) -> dict[str, float]:
        """Prec@0.5 on dev, and the mean IoU; a mention without a box is right when there is no answer."""
        found, overlap = 0, 0.0
        device = next(self.net.parameters()).device
        for row in self.dev:
            loaded = load_image(row.image)
            pixels, width, height = prepare(np.asarray(loaded.image), self.recipe.image_size)
            features = self.net.look(pixels[None].to(device))
            memory = self.net.read(features, torch.tensor([self._ids(row)], device=device))
            written, _ = self.net.write(memory)
            seen = EncodedPicture(features, width, height)
            box = box_of(written.tokens[0].tolist(), seen, self.net.sizes.bins, loaded.image.size)
            most = max((box_iou(box, gold) for gold in row.boxes), default=0.0) if box else float(not row.boxes)
            found, overlap = found + (most >= 0.5), overlap + most
        return {"prec@0.5": found / len(self.dev), "iou": overlap / len(self.dev)}

    def save(self, folder: Path) -> None:
        """A folder for `grounder.weights`: the tensors under the authors' names, and the vocabulary."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.net.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / FILE).write_text(json.dumps(self.vocabulary) + "\n", encoding="utf-8")


class Tensors(list[Tensor]):
    """A list of tensors that moves to a device like one."""

    def to(self, device: torch.device) -> "Tensors":
        """The same tensors on a device."""
        return Tensors(one.to(device) for one in self)


def read(net: Any, features: Tensor, ids: Tensor) -> Memory:
    """The decoder's memory for n pictures' features (n, channels, h, w) and as many sentences (n, words)."""
    sentences = net.lan_enc(ids).tanh()[..., None, None]
    memory: Memory = net.head.transformer.remember(*net.head.transformer.encode(features * sentences))
    return memory


def teacher_forced(net: Any, memory: Memory, targets: Tensor) -> Tensor:
    """Logits (n, steps, bins + 1) of target tokens (n, steps), each given those before it."""
    pen = Pen(net.head, memory)
    before = memory.layers[0][0].new_zeros(len(targets), net.sizes.width)
    logits = []
    for step in range(targets.shape[1]):
        logits.append(pen.write(before))
        before = net.head.transformer.query_embedding(targets[:, step])
    return torch.stack(logits, 1)


def with_vocabulary(net: Seqtr, old: Mapping[str, int], new: Mapping[str, int]) -> Seqtr:
    """The net with word embeddings for another vocabulary; known words keep theirs, others are drawn as wide."""
    table = net.lan_enc.embedding.weight.detach()
    drawn = torch.randn(len(new), table.shape[1]) * table.std() + table.mean()
    for word, row in new.items():
        if word in old:
            drawn[row] = table[old[word]]
    state = net.state_dict() | {"lan_enc.embedding.weight": drawn}
    fresh = Seqtr(replace(net.sizes, words=len(new)))
    fresh.load_state_dict(state)
    return fresh
