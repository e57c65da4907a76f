"""Posts as questions with their answers, in the form that trl's trainers read."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.evals.scoring.evaluate import type_of_gold
from namepin.finetune.data.mentions import lines_of, require_fit
from namepin.finetune.data.splits import file_of, read_gold, require_pictures, require_tokens
from namepin.finetune.extractor.perturb import perturb_box
from namepin.finetune.recipes.extractor import ExtractorTraining, SftRecipe
from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.extractor.answer import GoldMention, Scheme, write_answer
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.prompt import SYSTEM, extract_question
from namepin.tools.geometry import Rectangle, box_area, clip_box
from namepin.tools.images.load import load_image
from namepin.tools.llm.box_frames import Frame, resize_for_model


def read_posts(recipe: ExtractorTraining, split: str) -> Dataset:
    """The posts of a split with their pictures and boxes.

    Raises:
        NamepinError: E106, E120, E130 to E139 for data that cannot be used.
    """
    dataset = read_gold(recipe.dataset, Path(recipe.root), split, regions=True)
    if not dataset.has_boxes:
        raise NamepinError("E130", "the data set has no xml/ folder, so it has no boxes", where=recipe.root)
    require_tokens(dataset.posts)
    require_pictures(dataset)
    if not any(gold.entities for gold in dataset.posts):
        raise NamepinError("E139", f"no mention in {split}", where=file_of(dataset))
    if recipe.scheme == "fmnerg51" and not dataset.has_fine:
        raise NamepinError("E139", "the data set has no fine types", where=file_of(dataset), mend="set scheme to auto")
    return dataset


def scheme_of(recipe: ExtractorTraining, dataset: Dataset) -> Scheme:
    """The types of the answers."""
    if recipe.scheme != "auto":
        return recipe.scheme
    return "fmnerg51" if dataset.has_fine else "gmner4"


def read_reasoning(recipe: ExtractorTraining, dataset: Dataset, data: dict[str, str]) -> Mapping[str, str]:
    """Post id -> a teacher's thoughts, where the recipe names a file; adds the file's sha256 to `data`.

    Raises:
        NamepinError: E130 or E134 for a file that cannot be read, E135 for one that fits no post.
    """
    file = recipe.reasoning if isinstance(recipe, SftRecipe) else ""
    if not file:
        return {}
    thoughts = {post: text for post, text in lines_of(file, "reasoning")}
    require_fit(file, any(gold.post.id in thoughts for gold in dataset.posts), f"post of {recipe.train}")
    data[Path(file).name] = file_sha256(Path(file))
    return thoughts


@dataclass
class Questioner:
    """Turns posts into trl's examples, one at a time.

    Attributes:
        scheme: the types of the answers.
        own_scheme: the scheme of the data set's labels.
        unit: the unit of the answers' boxes.
        factor: pixels of a merged patch's side.
        least: smallest number of pixels of a sent picture.
        most: the largest.
    """

    scheme: Scheme
    own_scheme: str
    unit: Frame
    factor: int
    least: int
    most: int

    def ask(self, gold: GoldPost) -> dict[str, Any]:
        """The question: `prompt` (messages), `images` (none or one), `post` (its id) and `frame`.

        Raises:
            NamepinError: E120 to E125 when the picture cannot be read.
        """
        images, frame = [], None
        if gold.post.image:
            upright = load_image(gold.post.image).image
            images = [resize_for_model(upright, self.factor, self.least, self.most)]
            frame = BoxFrame(self.unit, images[0].size, upright.size)
        content = [{"type": "image"}] * len(images)
        content += [{"type": "text", "text": extract_question(gold.post.text, self.scheme, frame)}]
        system = [{"type": "text", "text": SYSTEM}]
        prompt = [{"role": "system", "content": system}, {"role": "user", "content": content}]
        return {"prompt": prompt, "images": images, "post": gold.post.id, "frame": frame}

    def answer(
        self, gold: GoldPost, frame: BoxFrame | None, reasoning: str | None, shift: float, scale: float, seed: str
    ) -> str:
        """The gold answer, with perturbed boxes; of several gold boxes, the largest.

        Raises:
            NamepinError: E133 for a box outside the picture.
        """
        rng = random.Random(seed)
        mentions = []
        for entity in gold.entities:
            box: Rectangle | None = max(entity.boxes, key=box_area) if entity.boxes and frame else None
            if box is not None and frame is not None:
                box = self._inside(perturb_box(box, frame.size, shift, scale, rng), frame, gold)
            kind = type_of_gold(entity, self.own_scheme, self.scheme) or entity.label
            mentions.append(GoldMention(entity.text, kind, box))
        return write_answer(mentions, frame, reasoning)

    @staticmethod
    def _inside(box: Rectangle, frame: BoxFrame, gold: GoldPost) -> Rectangle:
        inside = clip_box(box, frame.size)
        if inside is None:
            what = f"the box {box} of post {gold.post.id!r} is outside its picture of {frame.size}"
            raise NamepinError("E133", what, where=gold.where, mend="fix the annotation or the picture")
        return inside


class Examples:
    """The training posts as examples; a `datasets.Dataset` calls it with the numbers of a batch."""

    def __init__(
        self, recipe: ExtractorTraining, posts: Sequence[GoldPost], ask: Questioner, reasoning: Mapping[str, str]
    ) -> None:
        self.recipe, self.posts, self.ask, self.reasoning = recipe, posts, ask, reasoning
        self.epoch = 0
        """Number of the epoch; the perturbation of boxes depends on it."""

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        """The examples, as columns."""
        rows = [self.example(number) for number in batch["number"]]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def example(self, number: int) -> dict[str, Any]:
        """One post as a question, for SFT with its answer."""
        gold, recipe = self.posts[number], self.recipe
        row = self.ask.ask(gold)
        if isinstance(recipe, SftRecipe):
            seed = f"{recipe.seed}/{self.epoch}/{number}"
            thoughts = self.reasoning.get(gold.post.id)
            text = self.ask.answer(gold, row["frame"], thoughts, recipe.shift, recipe.scale, seed)
            row["completion"] = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
        return row
