"""The unified generative baseline: `namepin finetune generator`, in the manner of H-Index and TIGER.

A T5 or BART reads a picture's regions (a frozen ResNet's features and their places, projected to the embeddings' width)
and the text, and writes `NAME | TYPE | REGION` for every entity in order, joined by ` ; `. REGION is the number of a
region, or `none`. Only a detector's regions can be chosen. A trained folder predicts by
`python -m namepin.finetune.generator FOLDER --dataset D --root DIR --split S --regions FILE --out FILE`.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from namepin.evals.datasets.gold import GoldEntity, GoldPost
from namepin.evals.overlap import TrainedPosts
from namepin.finetune.data.splits import read_gold, require_pictures, require_tokens
from namepin.finetune.loop.run_folder import settings_of
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.loop.trainer import Run
from namepin.finetune.recipes.generator import GeneratorRecipe
from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError, in_one_line
from namepin.tools.files import atomic_write
from namepin.tools.geometry import box_iou
from namepin.tools.images.load import load_image
from namepin.tools.images.tensors import imagenet
from namepin.tools.jsonl import dump_json, read_rows
from namepin.tools.labels import FINE_TO_COARSE4
from namepin.tools.loading.pretrained import load_errors, load_folder, locate
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.types import Box

NOWHERE, FIELD, ENTITY = "none", " | ", " ; "
WEIGHTS, LANGUAGE, VISION, SETTINGS = "model.safetensors", "language", "vision", "generator.json"

Regions = Mapping[str, Sequence[Box]]
"""Post id -> a detector's boxes, best first."""


@dataclass(frozen=True)
class Generated:
    """An entity that the model wrote: its tokens, its type, and its region's number."""

    token_span: tuple[int, int]
    label: str
    region: int | None


def sequence_of(gold: GoldPost, boxes: Sequence[Box]) -> str:
    """The answer for a post: its entities in order, each with the first region of IoU 0.5 with a gold box."""
    return ENTITY.join(
        FIELD.join((entity.text, entity.fine or entity.label, _region_of(entity, boxes))) for entity in gold.entities
    )


def _region_of(entity: GoldEntity, boxes: Sequence[Box]) -> str:
    best = max(((box_iou(box, one), -at) for at, box in enumerate(boxes) for one in entity.boxes or ()), default=(0, 0))
    return str(-best[1]) if best[0] >= 0.5 else NOWHERE


def parse_sequence(answer: str, tokens: Sequence[str], regions: int) -> list[Generated]:
    """The entities of an answer that are in the text; each takes the first place that none has taken yet.

    Args:
        answer: what the model wrote; parts of another form are left out.
        tokens: the post's.
        regions: number of regions; other numbers mean none.
    """
    found: list[Generated] = []
    free = [True] * len(tokens)
    for part in answer.split(ENTITY.strip()):
        fields = [" ".join(field.split()) for field in part.split(FIELD.strip())]
        if len(fields) != 3 or not fields[0] or not fields[1]:
            continue
        name, label, region = fields
        wanted = "".join(name.split()).casefold()
        span = next((span for span in _spans(tokens, wanted) if all(free[span[0] : span[1]])), None)
        if span:
            free[span[0] : span[1]] = [False] * (span[1] - span[0])
            number = int(region) if region.isascii() and region.isdigit() and int(region) < regions else None
            found.append(Generated(span, label, number))
    return found


def _spans(tokens: Sequence[str], wanted: str) -> list[tuple[int, int]]:
    spans = []
    for first in range(len(tokens)):
        text = ""
        for end in range(first, len(tokens)):
            text += tokens[end].casefold()
            if text == wanted:
                spans.append((first, end + 1))
            if len(text) >= len(wanted):
                break
    return spans


def read_boxes(file: str, posts: Sequence[GoldPost], top: int) -> Regions:
    """The regions of posts.

    Raises:
        NamepinError: E130 when the file is missing, E134 a row of another form, E135 when it fits no post.
    """
    if not Path(file).is_file():
        raise NamepinError("E130", "no regions", where=file or "regions", mend="write them with namepin data regions")

    def row(values: Mapping[str, Any]) -> tuple[str, list[Box]]:
        left_top_right_bottom = [[float(edge) for edge in box] for box in values["regions"]]
        return str(values["id"]), [(a, b, c, d) for a, b, c, d in left_top_right_bottom][:top]

    found = dict(read_rows(Path(file), row, 'a row of {"id", "regions"}'))
    if not found.keys() & {gold.post.id for gold in posts}:
        raise NamepinError("E135", "no row fits any post", where=file, mend="give the regions of this split")
    return found


class UnifiedNet(nn.Module):
    """A language model with a projection of regions; the ResNet is frozen."""

    def __init__(self, language: Any, vision: Any) -> None:
        super().__init__()
        self.language, self.vision = language, vision.requires_grad_(False)
        width = vision.config.hidden_sizes[-1]
        self.project = nn.Linear(width + 4, language.config.d_model)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The encoder's embeddings (rows, regions + tokens, width) and their mask."""
        embedded = self.language.get_input_embeddings()(batch["ids"])
        rows, most = batch["seen"].shape
        regions = embedded.new_zeros(rows, most, embedded.shape[-1])
        if len(batch["pixels"]):
            with torch.no_grad():
                features = self.vision(batch["pixels"]).pooler_output.flatten(1)
            regions[batch["seen"]] = self.project(torch.cat([features, batch["places"]], 1)).to(regions)
        mask = torch.cat([batch["seen"], batch["mask"]], 1)
        return {"inputs_embeds": torch.cat([regions, embedded], 1), "attention_mask": mask.long()}

    def forward(self, batch: Batch) -> Tensor:
        """The mean cross-entropy of the answers' tokens."""
        loss: Tensor = self.language(**self.inputs(batch), labels=batch["labels"]).loss
        return loss


class Reader:
    """Posts with their regions as the net's input."""

    def __init__(self, tokenizer: Any, settings: Mapping[str, Any]) -> None:
        self.tokenizer, self.longest, self.side = tokenizer, settings["longest"], settings["region_size"]

    def batch(self, rows: Sequence[tuple[GoldPost, Sequence[Box]]]) -> dict[str, Tensor]:
        """`ids`, `mask` (rows, tokens); `seen` (rows, regions); `pixels` and `places` of all regions together."""
        texts = [gold.post.text for gold, _ in rows]
        words = self.tokenizer(texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
        most = max(len(boxes) for _, boxes in rows)
        seen = torch.tensor([[at < len(boxes) for at in range(most)] for _, boxes in rows]).reshape(len(rows), most)
        pixels, places = list[Tensor](), list[list[float]]()
        for gold, boxes in rows:
            image = load_image(gold.post.image).image if boxes and gold.post.image else None
            for box in boxes if image else ():
                assert image is not None
                pixels.append(self._crop(image, box))
                places.append([edge / side for edge, side in zip(box, image.size * 2, strict=True)])
        side = (3, self.side, self.side)
        return {
            "ids": words["input_ids"],
            "mask": words["attention_mask"].bool(),
            "seen": seen,
            "pixels": torch.stack(pixels) if pixels else torch.zeros(0, *side),
            "places": torch.tensor(places).reshape(-1, 4),
        }

    def _crop(self, image: Image.Image, box: Box) -> Tensor:
        left, top, right, bottom = map(round, box)
        part = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        return imagenet(part.resize((self.side, self.side), Image.Resampling.BICUBIC))

    def labels(self, answers: Sequence[str]) -> Tensor:
        """The answers' tokens, (rows, tokens); -100 is padding."""
        words = self.tokenizer(
            text_target=list(answers), padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        ids: Tensor = words["input_ids"]
        return ids.masked_fill(words["attention_mask"] == 0, -100)


class GeneratorTask(Task):
    """The unified model with its posts."""

    name = "generator"
    net: UnifiedNet

    def __init__(self, recipe: GeneratorRecipe) -> None:
        """Load data and weights.

        Raises:
            NamepinError: E106, E120, E130 to E139 data and regions; E210 to E213 weights.
        """
        self.recipe, self.data = recipe, dict[str, str]()
        self.train = self._rows(recipe.train, recipe.regions)[: recipe.limit or None]
        self.dev = self._rows(recipe.dev, recipe.dev_regions)
        self.trained_posts = TrainedPosts.of((gold.post.id, gold.post.text) for gold, _ in self.train)
        torch.manual_seed(recipe.seed)
        self.net, tokenizer = load_net(locate(recipe.weights), locate(recipe.vision))
        self.reader = Reader(tokenizer, asdict(recipe))

    def _rows(self, split: str, regions: str) -> list[tuple[GoldPost, Sequence[Box]]]:
        dataset = read_gold(self.recipe.dataset, Path(self.recipe.root), split, regions=True)
        require_tokens(dataset.posts)
        require_pictures(dataset)
        if not any(gold.entities for gold in dataset.posts):
            raise NamepinError("E139", f"no mention in {split}", where=self.recipe.root)
        boxes = read_boxes(regions, dataset.posts, self.recipe.top)
        self.data |= {f"{dataset.name} {split}": dataset.sha256, f"{split} regions": file_sha256(Path(regions))}
        return [(gold, boxes.get(gold.post.id, ()) if gold.post.image else ()) for gold in dataset.posts]

    def rows(self, rng: random.Random) -> Sequence[tuple[GoldPost, Sequence[Box]]]:
        """The posts."""
        return rng.sample(self.train, len(self.train))

    def collate(self, rows: list[tuple[GoldPost, Sequence[Box]]]) -> Batch:
        """The net's input and the answers' tokens."""
        return {**self.reader.batch(rows), "labels": self.reader.labels([sequence_of(*row) for row in rows])}

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """The mean cross-entropy of the answers' tokens."""
        loss: Tensor = net(batch)
        return loss

    def score(self) -> dict[str, float]:
        """F1 of (span, type, region) on dev, and of (span, type); a region is right by its number."""
        right, named, found, gold = 0, 0, 0, 0
        for (post, boxes), entities in zip(self.dev, generate(self.net, self.reader, self.dev), strict=True):
            truth = parse_sequence(sequence_of(post, boxes), post.post.tokens or (), len(boxes))
            right += len(set(entities) & set(truth))
            named += len({(e.token_span, e.label) for e in entities} & {(e.token_span, e.label) for e in truth})
            found, gold = found + len(entities), gold + len(truth)
        most = max(found + gold, 1)
        return {"f1": 2 * right / most, "mner_f1": 2 * named / most}

    def save(self, folder: Path) -> None:
        """A folder for `python -m namepin.finetune.generator`."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.net.project.state_dict().items()}
        save_file(tensors, folder / WEIGHTS)
        with quiet_transformers():
            self.net.language.save_pretrained(folder / LANGUAGE)
            self.reader.tokenizer.save_pretrained(folder / LANGUAGE)
            self.net.vision.save_pretrained(folder / VISION)
        settings = {key: settings_of(self.recipe)[key] for key in ("top", "region_size", "longest")}
        (folder / SETTINGS).write_text(json.dumps(settings) + "\n", encoding="utf-8")


def load_net(language: Path, vision: Path) -> tuple[UnifiedNet, Any]:
    """The net, with a new projection, and its tokenizer.

    Raises:
        NamepinError: E210 to E213.
    """
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, ResNetModel

    try:
        with load_errors(str(language)), quiet_transformers():
            model: Any = AutoModelForSeq2SeqLM.from_pretrained(language, local_files_only=True)
            tokenizer: Any = AutoTokenizer.from_pretrained(language, local_files_only=True)
    except (ValueError, OSError) as error:
        what = f"not a T5 or BART: {str(error).splitlines()[0]}"
        raise NamepinError("E212", what, where=str(language), mend="take google-t5/t5-small or the like") from error
    resnet = load_folder(ResNetModel, vision, kind="resnet", mend="give a ResNet")
    return UnifiedNet(model, resnet), tokenizer


def generate(net: UnifiedNet, reader: Reader, rows: Sequence[tuple[GoldPost, Sequence[Box]]]) -> list[list[Generated]]:
    """The entities of posts, by greedy decoding."""
    device, found = next(net.parameters()).device, list[list[Generated]]()
    for at in range(0, len(rows), 16):
        part = rows[at : at + 16]
        batch = {key: value.to(device) for key, value in reader.batch(part).items()}
        with torch.inference_mode():
            ids = net.language.generate(
                **net.inputs(batch), max_new_tokens=reader.longest, do_sample=False, num_beams=1
            )
        answers = reader.tokenizer.batch_decode(ids, skip_special_tokens=True)
        found += [
            parse_sequence(answer, gold.post.tokens or (), len(boxes))
            for answer, (gold, boxes) in zip(answers, part, strict=True)
        ]
    return found


def predict(folder: Path, dataset: str, root: Path, split: str, regions: str, out: Path) -> int:
    """Write a trained model's predictions for a split; returns the number of posts.

    Raises:
        NamepinError: E120 to E139 data and regions; E210 to E213 weights.
    """
    if not (folder / SETTINGS).is_file():
        mend = "give the weights folder of namepin finetune generator"
        raise NamepinError("E210", "no trained generator here", where=str(folder), mend=mend)
    settings = json.loads((folder / SETTINGS).read_text("utf-8"))
    net, tokenizer = load_net(folder / LANGUAGE, folder / VISION)
    net.project.load_state_dict(load_file(folder / WEIGHTS))
    posts = read_gold(dataset, root, split).posts
    boxes = read_boxes(regions, posts, settings["top"])
    rows = [(gold, boxes.get(gold.post.id, ()) if gold.post.image else ()) for gold in posts]
    lines = []
    for (gold, own), entities in zip(rows, generate(net.eval(), Reader(tokenizer, settings), rows), strict=True):
        written = [_prediction(one, own) for one in entities]
        lines.append(dump_json({"id": gold.post.id, "entities": written}))
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, "\n".join(lines) + "\n")
    return len(lines)


def _prediction(one: Generated, boxes: Sequence[Box]) -> dict[str, Any]:
    fine = {"fine_label": one.label} if one.label in FINE_TO_COARSE4 else {}
    return {
        "token_span": list(one.token_span),
        "label": FINE_TO_COARSE4.get(one.label, one.label),
        **fine,
        "groundable": one.region is not None,
        "box": None if one.region is None else list(boxes[one.region]),
    }


def train(recipe: GeneratorRecipe, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's weights are then in `out/weights`."""
    return Run(recipe, GeneratorTask(recipe)).run(resume)


def main(argv: Sequence[str] | None = None) -> None:
    """Predict with a trained folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", default="gmner")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--regions", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    count = predict(args.folder, args.dataset, args.root, args.split, args.regions, args.out)
    print(f"{count} posts in {args.out}")


if __name__ == "__main__":
    with in_one_line():
        main()
