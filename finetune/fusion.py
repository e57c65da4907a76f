"""Train the fusion encoder, a vanilla MNER model whose features find similar posts: `namepin finetune fusion`.

UMT learns names and types from text and picture together. RiVEG takes its multimodal hidden states as the fusion
features of a post (section IV-A). A post without a picture gets a picture of the mean colour.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from namepin.evals.datasets.gold import GoldPost
from namepin.evals.datasets.tags import spans_of_tags
from namepin.evals.overlap import TrainedPosts
from namepin.finetune.data.splits import file_of, read_gold, require_pictures, require_tokens
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.loop.trainer import Run
from namepin.finetune.recipes.fusion import UmtRecipe
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.images.tensors import squash
from namepin.tools.labels import COARSE4, COARSE8_TO_4
from namepin.tools.loading.pretrained import load_folder, load_tokenizer, locate
from namepin.tools.models.match_texts import without_special
from namepin.tools.models.umt_checkpoint import MEAN, STD, save_umt
from namepin.tools.nets.crf import bio_tags
from namepin.tools.nets.umt import Umt, UmtBatch


class UmtTask(Task):
    """UMT with its posts."""

    name = "fusion"

    def __init__(self, recipe: UmtRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E210 to E218 weights; E106, E120, E130 to E139 data.
        """
        from transformers import BertModel, ResNetModel

        self.recipe = recipe
        self.data: dict[str, str] = {}
        self.train, self.dev = self._posts(recipe.train, recipe.limit), self._posts(recipe.dev)
        self.trained_posts = TrainedPosts.of((gold.post.id, gold.post.text) for gold in self.train)
        bert, resnet = locate(recipe.text), locate(recipe.vision)
        text = load_folder(_WithoutPooler(BertModel), bert, kind="bert", mend="give a BERT")
        vision = load_folder(ResNetModel, resnet, kind="resnet", mend="give a ResNet")
        self.words = load_tokenizer(str(bert), text.config.vocab_size)
        self.longest = min(recipe.pieces, text.config.max_position_embeddings)
        torch.manual_seed(recipe.seed)
        self.net: nn.Module = Umt(text, vision, len(COARSE4))
        self.tags = bio_tags(COARSE4)

    def _posts(self, split: str, limit: int = 0) -> list[GoldPost]:
        dataset = read_gold(self.recipe.dataset, Path(self.recipe.root), split)
        self.data[f"{dataset.name} {split}"] = dataset.sha256
        if not any(gold.entities for gold in dataset.posts):
            raise NamepinError("E139", f"no mention in {split}", where=file_of(dataset))
        require_tokens(dataset.posts)
        require_pictures(dataset)
        return list(dataset.posts[: limit or None])

    def rows(self, rng: random.Random) -> Sequence[GoldPost]:
        """The posts."""
        return rng.sample(self.train, len(self.train))

    def collate(self, rows: list[GoldPost]) -> Batch:
        """Word pieces, where each word begins, tags and pictures."""
        spelling = [self._pieces(gold.post.tokens or ()) for gold in rows]
        ids = _pad([pieces for pieces, _ in spelling], self.words.pad_token_id)
        starts = _pad([starts for _, starts in spelling], 0)
        lengths = torch.tensor([len(starts) for _, starts in spelling])
        tags = _pad([self._tags(gold)[: len(starts)] for gold, (_, starts) in zip(rows, spelling, strict=True)], 0)
        return {
            "ids": ids,
            "piece_mask": torch.arange(ids.shape[1]) < torch.tensor([[len(pieces)] for pieces, _ in spelling]),
            "starts": starts,
            "word_mask": torch.arange(starts.shape[1]) < lengths[:, None],
            "tags": tags,
            "pixels": torch.stack([self._picture(gold) for gold in rows]),
        }

    def _pieces(self, tokens: Sequence[str]) -> tuple[list[int], list[int]]:
        """Piece ids with [CLS] and [SEP], and the place of each word's first piece, truncated to the largest length."""
        ids, starts = [self.words.cls_token_id], []
        for token in tokens:
            plain = without_special(token, self.words)
            pieces = self.words(plain, add_special_tokens=False)["input_ids"] or [self.words.unk_token_id]
            if len(ids) + len(pieces) >= self.longest:
                break
            starts.append(len(ids))
            ids += pieces
        if not starts:  # a single word with more pieces than fit
            starts, ids = [1], [*ids, self.words.unk_token_id]
        return [*ids, self.words.sep_token_id], starts

    def _tags(self, gold: GoldPost) -> list[int]:
        found = ["O"] * len(gold.post.tokens or ())
        for entity in gold.entities:
            label = COARSE8_TO_4.get(entity.label, entity.label)
            first, end = entity.token_span
            found[first:end] = [f"B-{label}", *[f"I-{label}"] * (end - first - 1)]
        return [self.tags.index(tag) for tag in found]

    def _picture(self, gold: GoldPost) -> Tensor:
        side = self.recipe.image_size
        path = gold.post.image
        if path is None:
            return torch.zeros(3, side, side)
        return squash(load_image(path).image, side, MEAN, STD)

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """UMT's loss: the loss of the tags plus half the loss of the spans."""
        umt: Any = net
        loss: Tensor = umt.loss(_batch(batch), batch["starts"], batch["word_mask"], batch["tags"])
        return loss

    def score(self) -> dict[str, float]:
        """Micro F1 of span and type on dev."""
        umt: Any = self.net
        device = next(self.net.parameters()).device
        right = found = gold = 0
        for at in range(0, len(self.dev), 16):
            rows = self.dev[at : at + 16]
            batch = {key: value.to(device) for key, value in self.collate(rows).items()}
            for post, tags in zip(rows, umt.decode(_batch(batch), batch["starts"], batch["word_mask"]), strict=True):
                predicted = set(spans_of_tags([self.tags[tag] for tag in tags])[0])
                true = set(spans_of_tags([self.tags[tag] for tag in self._tags(post)])[0])
                right, found, gold = right + len(predicted & true), found + len(predicted), gold + len(true)
        return {"f1": 2 * right / max(found + gold, 1)}

    def save(self, folder: Path) -> None:
        """A folder for `examples.weights` with `examples.features=umt`."""
        umt: Any = self.net
        save_umt(umt, self.words, folder, self.recipe.image_size)


class _WithoutPooler:
    """transformers' BERT without its pooler, which UMT does not use; replaces the class in `load_folder`."""

    def __init__(self, loader: Any) -> None:
        self._loader, self.config_class = loader, loader.config_class

    def from_pretrained(self, folder: Path, **settings: Any) -> Any:
        """As in transformers, but the weights of heads and pooler may stay unused."""
        net, report = self._loader.from_pretrained(folder, add_pooling_layer=False, **settings)
        spare = ("cls.", "pooler.", "bert.pooler.")
        report["unexpected_keys"] = {key for key in report["unexpected_keys"] if not key.startswith(spare)}
        return net, report


def _batch(batch: Batch) -> UmtBatch:
    return UmtBatch(batch["ids"], batch["piece_mask"], batch["pixels"])


def _pad(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *([fill] * (longest - len(row)))] for row in rows])


def train(recipe: UmtRecipe, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's weights are then in `out/weights`."""
    return Run(recipe, UmtTask(recipe)).run(resume)
