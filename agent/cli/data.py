"""`namepin data`: check data sets and convert them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from namepin.agent.cli.checks import check_writable
from namepin.agent.cli.options import DatasetName, Set
from namepin.tools.errors import Exit, NamepinError


class Form(StrEnum):
    """The formats that can be written."""

    conll = "conll"
    jsonl = "jsonl"
    labelme = "labelme"
    coco = "coco"
    label_studio = "label-studio"


data = typer.Typer(help="Check data sets and convert them.", no_args_is_help=True)


@data.command(epilog="Example: namepin data check DATA/gmner --dataset gmner")
def check(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The data set's folder.")],
    dataset: Annotated[
        DatasetName | None, typer.Option("--dataset", help="Name of the data set. [default: by its layout]")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
) -> int:
    """Statistics of every split, posts that splits share, and every problem with file and line."""
    from rich.console import Console

    from namepin.evals.datasets.check import check_folder
    from namepin.evals.report.console import show_check

    check_writable(json)
    result = check_folder(root, dataset.value if dataset else None)
    show_check(result, Console(soft_wrap=True))
    if json:
        json.write_text(result.model_dump_json(indent=1) + "\n", "utf-8")
    return Exit.DONE if result.sound else Exit.SOME_FAILED


@data.command(epilog="Example: namepin data convert DATA/gmner out/gmner-jsonl --to jsonl --split dev")
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The data set's folder.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The folder to write into.")],
    to: Annotated[Form, typer.Option("--to", help="The form to write.")],
    split: Annotated[str, typer.Option("--split", help="Which split.")],
    dataset: Annotated[
        DatasetName | None, typer.Option("--dataset", help="Form of the source. [default: by its layout]")
    ] = None,
) -> int:
    """Write a split in another form: CoNLL (as Twitter-GMNER), JSONL, labelme, COCO or Label Studio.

    Problems of the source, and data that the form cannot hold, are listed. Exit 1 if anything was left out.
    """
    from rich.console import Console

    from namepin.evals.datasets.check import detect
    from namepin.evals.datasets.convert import convert as write

    done = write(source, dataset.value if dataset else detect(source), split, target, to.value)
    messages = Console(stderr=True, soft_wrap=True)
    for problem in done.problems:
        messages.print(f"{problem.code} {problem.where}: {problem.what}", markup=False, highlight=False)
    Console().print(f"{done.posts} posts written to {target} as {to.value}", highlight=False, soft_wrap=True)
    return Exit.DONE if done.complete else Exit.SOME_FAILED


@data.command(epilog="Example: namepin data regions --dataset gmner --root DATA/gmner --split dev --out boxes.jsonl")
def regions(
    dataset: Annotated[DatasetName, typer.Option("--dataset", help="Which data set.")],
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Its folder, with images/.")],
    split: Annotated[str, typer.Option("--split", help="Which split.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The JSONL to write.")],
    weights: Annotated[
        str, typer.Option("--weights", help="An object detector of transformers: a folder or a name on the hub.")
    ] = "PekingU/rtdetr_r50vd",
    top: Annotated[int, typer.Option("--top", min=1, max=300, help="Boxes of each picture.")] = 20,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
) -> int:
    """A detector's boxes of a split's pictures, for eval --predictions (Table II) and grounder.regions."""
    from rich.console import Console

    from namepin.agent.cli.progress import count_progress, say_loading
    from namepin.evals.run import load_dataset

    check_writable(out)
    found = load_dataset(dataset.value, root, split)
    say_loading(f"the detector {weights}")

    from namepin.agent.workflows.regions import write_regions
    from namepin.tools.grounder.config import DetectorConfig

    config = DetectorConfig(weights=weights, top=top, device=device)
    with count_progress("pictures", len(found.posts), Console(stderr=True)) as done:
        count = write_regions(found, config, out, done)
    print(f"{count} pictures in {out}")
    return Exit.DONE


@data.command(epilog="Example: namepin data agreement masks-of-ann/ masks-of-bo/ --root DATA/smner --split dev")
def agreement(
    first: Annotated[Path, typer.Argument(metavar="A", help="One annotator: labelme files ID.json, or a JSONL.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other one.")],
    root: Annotated[Path | None, typer.Option("--root", help="The annotated data set; needed for kappa.")] = None,
    split: Annotated[str, typer.Option("--split", help="Its split.")] = "dev",
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
) -> int:
    """Agreement of two annotators' masks: Fleiss' kappa, Dice, IoU (RiVEG, section III-A)."""
    from rich.console import Console

    from namepin.evals.datasets.check import detect
    from namepin.evals.report.console import show_agreement
    from namepin.evals.run import load_dataset
    from namepin.evals.scoring.agreement import agreement as compare
    from namepin.evals.scoring.agreement import read_annotator

    check_writable(json)
    entities = load_dataset(detect(root), root, split) if root else None
    result = compare(read_annotator(first), read_annotator(second), entities)
    show_agreement(result, Console(soft_wrap=True, highlight=False))
    if json:
        json.write_text(result.model_dump_json(indent=1) + "\n", "utf-8")
    return Exit.SOME_FAILED if result.problems or result.only else Exit.DONE


@data.command(epilog="Example: namepin data topn DATA/gmner --split dev --boxes boxes.jsonl")
def topn(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The data set's folder.")],
    boxes: Annotated[Path, typer.Option("--boxes", metavar="FILE", help="A detector's boxes: JSONL of id, boxes.")],
    split: Annotated[str, typer.Option("--split", help="Which split.")] = "dev",
    top: Annotated[str, typer.Option("--top", help="Numbers of boxes to check.")] = "10,15,20",
    iou: Annotated[float, typer.Option("--iou", help="Smallest IoU of a fitting box.")] = 0.5,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
) -> int:
    """TopN-Prec@0.5 of a detector's boxes (RiVEG, Table II)."""
    from rich.console import Console

    from namepin.evals.datasets.check import detect
    from namepin.evals.report.console import show_top_n
    from namepin.evals.run import load_dataset
    from namepin.evals.scoring.top_n import read_boxes, top_n

    check_writable(json)
    try:
        ns = [int(part) for part in top.split(",")]
    except ValueError as error:
        raise NamepinError("E139", f"not numbers: {top!r}", where="--top", mend="give them as 10,15,20") from error
    result = top_n(load_dataset(detect(root), root, split), read_boxes(boxes), ns, iou)
    show_top_n(result, Console(soft_wrap=True, highlight=False))
    if json:
        json.write_text(result.model_dump_json(indent=1) + "\n", "utf-8")
    return Exit.DONE


def register(app: typer.Typer) -> None:
    """Add the commands to the `namepin` app."""
    app.add_typer(data, name="data")


@data.command(epilog="Example: namepin data sandbox --out out/world --posts 400")
def sandbox(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; new or empty.")],
    posts: Annotated[int, typer.Option("--posts", min=1, max=1_000_000, help="Posts of train.")] = 4000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the world: equal seeds give equal files.")] = 1,
    held_out: Annotated[int, typer.Option("--held-out", min=1, max=100_000, help="Posts in dev, and in test.")] = 500,
) -> int:
    """Make a world: posts with drawn pictures and exact truth, whose test names never occur in training."""
    from namepin.finetune.sandbox.write import write_world

    write_world(out, {"train": posts, "dev": held_out, "test": held_out}, seed)
    print(f"{posts} + {held_out} + {held_out} posts in {out}")
    return Exit.DONE


@data.command(epilog="Example: namepin data augment DATA/gmner --models Qwen/Qwen3-8B --out out/augmented")
def augment(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The data set's folder.")],
    models: Annotated[str, typer.Option("--models", help="The server's model names, separated by commas.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for knowledge/, expansions/ and reasoning/.")
    ],
    dataset: Annotated[DatasetName, typer.Option("--dataset", help="Name of the data set.")] = DatasetName.gmner,
    split: Annotated[str, typer.Option("--split", help="The split; several models only for train.")] = "train",
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="Write a teacher's thoughts for the extractor, and nothing else.")
    ] = False,
    set_: Set = None,
    prompt_price: Annotated[float, typer.Option("--prompt-price", min=0, help="Price per million tokens.")] = 0.0,
    answer_price: Annotated[float, typer.Option("--answer-price", min=0, help="Price per million tokens.")] = 0.0,
) -> int:
    """Let language models explain a split's posts and names, for training. A stopped run can resume."""
    from namepin.agent.workflows.augment import DEFAULT
    from namepin.agent.workflows.augment import augment as run

    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise NamepinError("E203", "no model is named", where="--models", mend="--models one,two")
    done = run(dataset.value, root, split, names, out, set_ or (), ("reasoning",) if reasoning else DEFAULT)
    for model, usage in done.models.items():
        counts = f"{usage.rows} answers now, {usage.kept} before, {usage.failed} failed"
        print(f"{model}: {counts}; {usage.cost(prompt_price, answer_price)}")
    for kind, count in done.merged.items():
        print(f"{out / kind / f'{split}.jsonl'}: {count} lines")
    failed = sum(usage.failed for usage in done.models.values())
    return Exit.SOME_FAILED if failed else Exit.DONE
