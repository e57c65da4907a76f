"""The tagger's recipe: its architecture and its data."""

import os
from pathlib import Path

from namepin.evals.datasets.fmnerg import knowledge_root
from namepin.evals.datasets.gold import Dataset
from namepin.evals.run import load_dataset
from namepin.finetune.recipes.tagger import TaggerRecipe
from namepin.finetune.tagger.data import (
    Example,
    ccby_files,
    read_conll,
    read_fmnerg,
    read_gmner,
    read_twitter,
    spans_of,
)
from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.tagger.adapter import TaggerSpec
from namepin.tools.tagger.rows import InputSpec

TRAIN_FILES = {
    "gmner": "gmner/txt/train.txt",
    "fmnerg": "fmnerg/txt_fine/train.txt",
    "sandbox": "txt_fine/train.txt",
    "twitter": "train.txt",
}


def text_file(folder: Path, dataset: str, split: str) -> Path:
    """The file of a split's texts in the data set's own folder; Twitter-2015 and -2017 may call dev `valid`."""
    if dataset == "twitter":
        valid = folder / "valid.txt"
        return valid if split == "dev" and valid.is_file() else folder / f"{split}.txt"
    return folder / ("txt" if dataset == "gmner" else "txt_fine") / f"{split}.txt"


def spec_of(recipe: TaggerRecipe) -> TaggerSpec:
    """The architecture that the recipe trains."""
    return TaggerSpec.model_validate(
        {
            "scheme": recipe.scheme,
            "encoder": recipe.encoder,
            "beta": recipe.beta,
            "dropout": recipe.dropout,
            "bio_constraint": recipe.bio_constraint,
            "input": InputSpec.model_validate(
                {
                    "knowledge_pieces": recipe.knowledge_pieces,
                    "crf_scope": recipe.crf_scope,
                    "shapes": recipe.casing,
                    **({} if recipe.letters else {"word_letters": 0}),
                    "marks": recipe.marks,
                    "hints": recipe.marks,
                    "fine_hints": recipe.fine_hints,
                }
            ),
        }
    )


def data_root(recipe: TaggerRecipe) -> Path:
    """`recipe.data`, else NAMEPIN_DATA, else `../shared/data` beside the checkout.

    Raises:
        NamepinError: E130 when the data set's training file is missing.
    """
    root = Path(
        recipe.data or os.environ.get("NAMEPIN_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
    )
    file = root / TRAIN_FILES[recipe.dataset]
    if not file.is_file():
        raise NamepinError("E130", f"no {file.name} to train on", where=str(file), mend="set `data` or NAMEPIN_DATA")
    return root


def load_data(root: Path, recipe: TaggerRecipe) -> tuple[list[Example], list[Example], dict[str, str]]:
    """Training and dev posts, and the sha256 of every source file.

    GMNER has no fine types. Its mentions get weak fine types, distilled from the recorded knowledge.

    Raises:
        NamepinError: E130 to E139 for a split that is missing, has no mention, or a line that cannot be understood or
            learnt from; E203 for a scheme that the data set does not have.
    """
    spec = spec_of(recipe)
    folder = root if recipe.dataset in ("sandbox", "twitter") else root / recipe.dataset
    if recipe.dataset == "twitter" and recipe.scheme != "4":
        raise NamepinError("E203", "scheme: twitter has 4 types and no fine ones", mend="set scheme to 4")
    if recipe.scheme == "8/51" and (recipe.dataset == "gmner" or recipe.ccby_epochs):
        raise NamepinError("E203", "scheme: gmner and ccby have 4 coarse types, not 8", mend="set scheme to 4/51 or 4")
    if not recipe.bare and not recipe.knowledge:
        raise NamepinError("E203", "bare and knowledge are both off: an epoch has no posts", mend="set knowledge to 1")
    if recipe.lora and recipe.mean_epoch:
        raise NamepinError("E203", "mean_epoch: LoRA's factors cannot be averaged", mend="set mean_epoch or lora to 0")
    if recipe.marks and not recipe.casing:
        raise NamepinError("E203", "marks: they need casing", mend="set marks to false, or casing to true")
    if recipe.ccby_epochs and not ccby_files(root / "ccby"):
        raise NamepinError("E130", "no tweets for ccby_epochs", where=str(root / "ccby"), mend="set ccby_epochs to 0")
    for split in ("train", "dev"):
        dataset, file = load_dataset(recipe.dataset, folder, split), text_file(folder, recipe.dataset, split)
        require_learnable(dataset, file)
        require_tabs_and_bio(dataset, file)
    if recipe.dataset in ("fmnerg", "sandbox"):
        splits = read_fmnerg(folder, "train", spec), read_fmnerg(folder, "dev", spec)
    elif recipe.dataset == "twitter":
        train_file, dev_file = (text_file(folder, "twitter", split) for split in ("train", "dev"))
        splits = read_twitter(folder, train_file), read_twitter(folder, dev_file)
    else:
        from namepin.finetune.tagger.weak_labels import weak_fine_labels

        weak = weak_fine_labels(folder, "train") if spec.fine_types else None
        splits = read_gmner(folder, "train", weak), read_gmner(folder, "dev")
    files = []
    for text in (text_file(folder, recipe.dataset, split) for split in ("train", "dev")):
        known = knowledge_root(folder, text.stem) if recipe.dataset == "fmnerg" else folder
        files += [text, known / "knowledge" / f"{text.stem}.jsonl"]
    files += ccby_files(root / "ccby") if recipe.ccby_epochs else []
    train, dev = splits
    return (
        train[: recipe.limit or None],
        dev,
        {str(file.relative_to(root)): file_sha256(file) for file in files if file.is_file()},
    )


def require_tabs_and_bio(dataset: Dataset, file: Path) -> None:
    """Require that this recipe reads the same mentions as an evaluation, which accepts more forms of the format.

    Args:
        dataset: the split as an evaluation reads it.
        file: its text.

    Raises:
        NamepinError: E131 at the first difference.
    """
    posts = [(post, tuple(words), spans_of([tag[0] for tag in tags])) for post, words, tags in read_conll(file)]
    found = [(post, words, [span[:2] for span in spans]) for post, words, spans in posts]
    gold = [
        (one.post.id, tuple(one.post.tokens or ()), [entity.token_span for entity in one.entities])
        for one in dataset.posts
    ]
    if found != gold:
        place = next((n for n, pair in enumerate(zip(found, gold, strict=False)) if pair[0] != pair[1]), len(found))
        where = dataset.posts[place].where if place < len(dataset.posts) else str(file)
        what = "training reads BIO tags after tabs only; this post is in another form"
        raise NamepinError("E131", what, where=where, mend="convert the split with namepin data convert")


def require_learnable(dataset: Dataset, file: Path) -> None:
    """Require correct tags: training on wrong tags is worse than stopping.

    Args:
        dataset: the split.
        file: its text.

    Raises:
        NamepinError: E132 at the first tag that is broken, outside the scheme or disagrees with its coarse tag, E139
            when there is no mention.
    """
    for problem in dataset.problems:
        if problem.code == "E132":
            raise NamepinError("E132", problem.what, where=problem.where, mend="fix the file")
    if not any(gold.entities for gold in dataset.posts):
        raise NamepinError("E139", "no post has a mention: nothing to learn or to choose epochs by", where=str(file))
