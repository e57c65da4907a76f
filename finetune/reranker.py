"""Train the reranker: `namepin finetune reranker`. LoRA on LLaVA, BLIP-2 or a text model, with the prompt of Table 7.

A row has K candidate types in random order: the right type, K - 2 of its coarse type (of FMNERG's eight) and one of
another coarse type (GEM section 3.3.2). In a data set without fine types, all four coarse types are the candidates.
Types that never occur in train are not candidates: the model would learn to reject them without reading. The loss is
the answer's likelihood as the tool computes it: the question once, then the answer and the end token.
"""

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from namepin.evals.datasets.gold import GoldEntity, GoldPost
from namepin.evals.overlap import TrainedPosts
from namepin.finetune.data.mentions import lines_of, require_fit
from namepin.finetune.data.splits import file_of, read_gold, require_pictures, require_tokens
from namepin.finetune.loop.lora import LANGUAGE, save_lora, with_lora
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.loop.trainer import Run
from namepin.finetune.recipes.reranker import Blip2Recipe, LlavaRecipe, RerankerTraining, TextRecipe
from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import RerankRequest
from namepin.tools.labels import COARSE4, FINE51, FINE_TO_COARSE8
from namepin.tools.loading.pretrained import locate
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.media import Media
from namepin.tools.models.match_texts import without_special
from namepin.tools.reranker.blip2 import load_blip2_speech
from namepin.tools.reranker.config import (
    Blip2RerankerConfig,
    LlavaRerankerConfig,
    LocalRerankerConfig,
    TextRerankerConfig,
)
from namepin.tools.reranker.llava import load_llava
from namepin.tools.reranker.local import LocalModel, LocalReranker
from namepin.tools.reranker.prompt import clean_request, fit_prompt, seen_by
from namepin.tools.reranker.text import load_text_model


@dataclass(frozen=True)
class RerankRow:
    """A question before it has candidates: the mention of a post, and the right type."""

    gold: GoldPost
    entity: GoldEntity
    caption: str | None

    @property
    def answer(self) -> str:
        """The finest annotated type."""
        return self.entity.fine or self.entity.label


class RerankerTask(Task):
    """A base model with LoRA and its rows."""

    name = "reranker"

    def __init__(self, recipe: RerankerTraining) -> None:
        """Load data and weights, and put LoRA on.

        Raises:
            NamepinError: E106, E120, E130 to E139 data, E210 to E219 weights, E301 without peft or bitsandbytes.
        """
        self.recipe = recipe
        config_type, load = _MODELS[type(recipe)]
        captions = {post: text for post, text in lines_of(recipe.captions, "caption")} if recipe.captions else {}
        self.data: dict[str, str] = {}
        self.train, dev = (self._rows(split, captions) for split in (recipe.train, recipe.dev))
        self.train = self.train[: recipe.limit or None]
        self.trained_posts = TrainedPosts.of((row.gold.post.id, row.gold.post.text) for row in self.train)
        if recipe.captions:
            self.data[Path(recipe.captions).name] = file_sha256(Path(recipe.captions))
        named = {row.answer for row in self.train}
        if len(named) < 2:
            what, where = f"every mention is {named.pop()!r}: nothing to choose among", self.train[0].gold.where
            raise NamepinError("E139", what, where=where.rpartition(":")[0], mend="use another split")
        self.types = tuple(fine for fine in FINE51 if fine in named)
        rng = random.Random(f"{recipe.seed}/dev")
        sampled = dev if len(dev) <= recipe.dev_rows else rng.sample(dev, recipe.dev_rows)
        self.dev = [(row, candidates_of(row.answer, recipe.candidates, self.types, rng)) for row in sampled]
        settings = {name: getattr(recipe, name) for name in ("weights", "device", "dtype", "quantization")}
        if recipe.whole and "cached_pictures" in config_type.model_fields:
            settings["cached_pictures"] = 0  # training changes the picture features
        self.config = config_type.model_validate(settings)
        self.model = load(self.config)
        net: Any = self.model.net
        self.net: nn.Module = net.float().requires_grad_(True) if recipe.whole else with_lora(net, recipe, LANGUAGE)

    def _rows(self, split: str, captions: Mapping[str, str]) -> list[RerankRow]:
        dataset = read_gold(self.recipe.dataset, Path(self.recipe.root), split)
        self.data[f"{dataset.name} {split}"] = dataset.sha256
        rows = [
            RerankRow(gold, entity, captions.get(gold.post.id)) for gold in dataset.posts for entity in gold.entities
        ]
        if not rows:
            raise NamepinError("E139", f"no mention in {split}", where=file_of(dataset))
        if self.recipe.captions:
            require_fit(self.recipe.captions, any(row.caption is not None for row in rows), f"post of {split}")
        require_tokens(gold for gold in dataset.posts if gold.entities)
        require_pictures(dataset)
        return rows

    def rows(self, rng: random.Random) -> Sequence[tuple[RerankRow, tuple[str, ...]]]:
        """Every mention with the candidates of this epoch."""
        count = self.recipe.train_rows
        sample = rng.sample(self.train, count if 0 < count < len(self.train) else len(self.train))
        return [(row, candidates_of(row.answer, self.recipe.candidates, self.types, rng)) for row in sample]

    def collate(self, rows: list[tuple[RerankRow, tuple[str, ...]]]) -> Batch:
        """Requests with their pictures, and the right answer's index among the candidates."""
        requests: list[RerankRequest] = []
        images: dict[str, Image.Image] = {}
        for row, candidates in rows:
            request, media = self.request(row, candidates)
            requests.append(request)
            images |= media.images
        answers = [candidates.index(row.answer) for row, candidates in rows]
        return {"requests": requests, "media": Media(images=images), "answers": answers}

    def request(self, row: RerankRow, candidates: tuple[str, ...]) -> tuple[RerankRequest, Media]:
        """The request that the graph would send about this mention."""
        post = row.gold.post
        loaded = load_image(post.image) if post.image and self.model.reads_images else None
        request = RerankRequest(
            text=post.text,
            tokens=post.tokens or (),
            token_span=row.entity.token_span,
            candidates=candidates,
            image=loaded.ref if loaded else None,
            caption=row.caption,
        )
        return request, Media(images={loaded.ref.sha256: loaded.image} if loaded else {})

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Minus the mean log-probability of the right answers' tokens."""
        losses = []
        for request, answer in zip(batch["requests"], batch["answers"], strict=True):
            clean = clean_request(request, lambda text: without_special(text, self.model.tokenizer))
            visual = seen_by(clean, reads_images=self.model.reads_images)
            query = fit_prompt(clean, visual, hint=False, length=self._length, limit=self.config.max_query_tokens)
            question = self.model.question(query.text, clean, batch["media"])
            right = question.answers[answer]
            # With gradient checkpointing there is no cache, so the answer is read together with its question.
            (total,) = self.model.read(question, remember=not self.recipe.gradient_checkpointing).sums([right])
            losses.append(-total / len(right))
        return torch.stack(losses).mean()

    def _length(self, query: str) -> int:
        return len(self.model.tokenizer(query, add_special_tokens=False)["input_ids"])

    def score(self) -> dict[str, float]:
        """Accuracy of the tool's choices on dev."""
        tool = LocalReranker(self.config, self.model)
        right = 0
        for row, candidates in self.dev:
            request, media = self.request(row, candidates)
            right += tool.run([request], media)[0].label == row.answer
        return {"accuracy": right / len(self.dev)}

    def save(self, folder: Path) -> None:
        """An adapter for `reranker.adapter`, or, with `whole`, a folder for `reranker.weights`."""
        recipe = self.recipe
        if recipe.whole:
            save_whole(self.net, self.model.tokenizer, locate(recipe.weights), folder)
            return
        save_lora(self.net, recipe, LANGUAGE, folder, "rerank")


def candidates_of(answer: str, count: int, types: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    """The right type among others, shuffled: all four coarse types, or `count` fine types as in section 3.3.2.

    Args:
        answer: the right type.
        count: K; fewer if there are not enough types.
        types: the fine types to choose from. Other coarse types fill up a coarse type that has too few.
        rng: the source of randomness.
    """
    if answer in COARSE4:
        chosen = list(COARSE4)
    else:
        near = [fine for fine in types if FINE_TO_COARSE8[fine] == FINE_TO_COARSE8[answer] and fine != answer]
        far = [fine for fine in types if FINE_TO_COARSE8[fine] != FINE_TO_COARSE8[answer]]
        chosen = [answer, *rng.sample(near, min(count - 2, len(near)))]
        chosen += rng.sample(far, min(count - len(chosen), len(far)))
    rng.shuffle(chosen)
    return tuple(chosen)


def save_whole(net: Any, tokenizer: Any, base: Path, folder: Path) -> None:
    """A transformers folder with the picture settings of the base model's folder."""
    with quiet_transformers():
        net.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (base / name).is_file():
            shutil.copy(base / name, folder / name)


_MODELS: Mapping[type, tuple[type[LocalRerankerConfig], Callable[[Any], LocalModel]]] = {
    LlavaRecipe: (LlavaRerankerConfig, load_llava),
    Blip2Recipe: (Blip2RerankerConfig, load_blip2_speech),
    TextRecipe: (TextRerankerConfig, load_text_model),
}


def train(recipe: RerankerTraining, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's adapter is then in `out/weights`."""
    return Run(recipe, RerankerTask(recipe)).run(resume)
