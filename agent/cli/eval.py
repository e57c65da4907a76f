"""`namepin eval`: score a profile, or predictions in a file, on a data set."""

from collections.abc import Sequence
from enum import StrEnum
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from namepin.agent.cli.checks import check_writable
from namepin.agent.cli.console import results_console
from namepin.agent.cli.options import AllowOverlap, DatasetName, Ids, Knowledge, Profile, Set
from namepin.agent.cli.progress import count_progress, say_loading, warn
from namepin.tools.errors import Exit, NamepinError

if TYPE_CHECKING:
    from namepin.agent.config.settings import Settings
    from namepin.agent.workflows.evaluate import EvalPosts, Evaluation
    from namepin.agent.workflows.predict import Through
    from namepin.evals.scoring.predictions import Predictions

SHOWN_IDS = 10


class ProtocolName(StrEnum):
    """The counting rules."""

    canonical = "canonical"
    hindex = "hindex"
    tiger = "tiger"
    riveg = "riveg"


class Upload(StrEnum):
    """The data that may be sent to LangSmith."""

    nothing = "nothing"
    texts = "texts"
    images = "images"


class Visual(StrEnum):
    """The use of the predicted groundings."""

    predicted = "predicted"
    none = "none"


Dataset = Annotated[DatasetName, typer.Option("--dataset", help="Which data set.")]
Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder of the data set in its published form.")]
Split = Annotated[str, typer.Option("--split", help="The split: train, dev or test.")]
PredictionFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--predictions",
        metavar="FILE",
        help="Score this JSONL; no profile is run. Repeated: mean and deviation over runs.",
    ),
]
Protocol = Annotated[
    ProtocolName, typer.Option("--protocol", help="Counting rules: ours, or those of a paper's own script.")
]
KnowledgeFlag = Annotated[
    Knowledge, typer.Option("--knowledge", help="Auxiliary knowledge; recorded reads knowledge/SPLIT.jsonl.")
]
VisualFlag = Annotated[
    Visual, typer.Option("--visual", help="none: score as if all entities were predicted as not in the picture.")
]
Iou = Annotated[float, typer.Option("--iou", help="Smallest IoU of a right region.")]
Against = Annotated[
    Path | None, typer.Option("--against", metavar="FILE", help="A second JSONL to compare with, paired by post.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")]
HtmlFile = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the report as one page; with --save, traces beside it."),
]
MarkdownFile = Annotated[
    Path | None, typer.Option("--md", metavar="FILE", help="Write the report's tables as Markdown.")
]
Save = Annotated[
    Path | None, typer.Option("--save", metavar="FILE", help="Save the profile's results as JSONL; a rerun resumes.")
]
LangSmith = Annotated[
    str | None, typer.Option("--langsmith", metavar="NAME", help="Run as an experiment on this LangSmith data set.")
]
UploadFlag = Annotated[
    Upload, typer.Option("--upload", help="Data sent to LangSmith; nothing: its evaluators run here.")
]
Suggest = Annotated[
    str | None,
    typer.Option("--suggest", metavar="NAMES", help="gamma,match-threshold: find the best values on this dev split."),
]


def evaluate(
    dataset: Dataset,
    root: Root,
    split: Split,
    profile: Profile = None,
    predictions: PredictionFiles = None,
    protocol: Protocol = ProtocolName.canonical,
    knowledge: KnowledgeFlag = Knowledge.off,
    visual: VisualFlag = Visual.predicted,
    iou: Iou = 0.5,
    ids: Ids = None,
    against: Against = None,
    json: JsonFile = None,
    html: HtmlFile = None,
    markdown: MarkdownFile = None,
    save: Save = None,
    langsmith: LangSmith = None,
    upload: UploadFlag = Upload.texts,
    suggest: Suggest = None,
    allow_overlap: AllowOverlap = False,
    set_: Set = None,
) -> int:
    """Score a profile, or anyone's predictions, on a data set."""
    grounded, files = visual is Visual.predicted, predictions or []
    _check_flags(profile, files, set_, knowledge, grounded, against or html or markdown, save, langsmith, suggest)

    from namepin.agent.config.settings import load_settings
    from namepin.agent.workflows import evaluate as workflow
    from namepin.agent.workflows.overlap import checked_overlap
    from namepin.evals.scoring.evaluate import check_arguments

    check_arguments(protocol.value, iou)
    for file in (json, html, markdown, save):
        check_writable(file)
    settings = None if files else load_settings(profile, assignments=set_ or ())
    posts = workflow.read_posts(dataset.value, root, split, ids)
    overlap = checked_overlap(settings.dump(), posts.data, allow=allow_overlap) if settings else None
    warn(overlap.warning if overlap else "")
    if suggest and settings:
        return _suggest(posts, settings, suggest, knowledge)
    if len(files) > 1:
        return _over_runs(posts, files, protocol, iou, grounded, json)
    if settings:
        through = _experiment(langsmith, upload, protocol, iou) if langsmith else None
        found, about = _run(posts, settings, knowledge, save, through)
    else:
        found, about = posts.predictions(files[0]), f"predictions {files[0]}"
    scored = workflow.evaluate(
        posts, found, about, protocol=protocol.value, iou=iou, against=against, grounded=grounded, overlap=overlap
    )
    workflow.write_reports(scored, json=json, html=html, markdown=markdown, saved=save, settings=settings)
    return _show(scored)


_EXAMPLE = "namepin eval --dataset gmner --root DATA/gmner --split dev --predictions mine.jsonl --html report.html"


def register(app: typer.Typer) -> None:
    """Add the command to the `namepin` app."""
    app.command("eval", epilog=f"Example: {_EXAMPLE}")(evaluate)


def _check_flags(
    profile: str | None,
    files: Sequence[Path],
    assignments: Sequence[str] | None,
    knowledge: Knowledge,
    grounded: bool,
    one_run_only: Path | None,
    save: Path | None,
    langsmith: str | None,
    suggest: str | None,
) -> None:
    """Refuse flags that exclude each other.

    Raises:
        NamepinError: E139.
    """
    if profile and files:
        raise NamepinError("E139", "--profile and --predictions exclude each other", mend="give one of the two")
    if files and (save or assignments or knowledge is not Knowledge.off):
        what = "--knowledge, --save and --set go with --profile"
        raise NamepinError("E139", what, mend="leave them out with --predictions")
    if suggest and files:
        raise NamepinError("E139", "--suggest runs a profile", mend="leave out --predictions")
    if langsmith and (files or not grounded):
        what = "--langsmith runs a profile and scores its results"
        raise NamepinError("E139", what, mend="leave out the other flag")
    if len(files) > 1 and one_run_only:
        what = "several --predictions give only means"
        raise NamepinError("E139", what, mend="leave out --against, --html, --md")


def _show(scored: "Evaluation") -> int:
    """Print the report and the failed posts; returns the exit code."""
    from rich.console import Console

    from namepin.evals.report.console import show

    show(scored.report, results_console(markup=True), scored.about)
    failed = scored.report.failed_ids
    if not failed:
        return Exit.DONE
    shown = ", ".join(failed[:SHOWN_IDS]) + (", ..." if len(failed) > SHOWN_IDS else "")
    line = f"failed: {len(failed)} of {scored.report.n_posts} posts: {shown}"
    Console(stderr=True).print(line, highlight=False)
    return Exit.SOME_FAILED


def _over_runs(
    posts: "EvalPosts", files: Sequence[Path], protocol: ProtocolName, iou: float, grounded: bool, json: Path | None
) -> int:
    """Print and write mean and deviation of every score."""
    from namepin.agent.workflows.evaluate import evaluate_runs
    from namepin.evals.report.console import show_spreads

    spreads, some_failed = evaluate_runs(posts, files, protocol=protocol.value, iou=iou, grounded=grounded)
    show_spreads(posts.data.title, spreads, results_console(markup=True))
    if json:
        json.write_text(
            dumps({task: spread.model_dump() for task, spread in spreads.items()}, indent=1) + "\n", "utf-8"
        )
    return Exit.SOME_FAILED if some_failed else Exit.DONE


def _run(
    posts: "EvalPosts", settings: "Settings", knowledge: Knowledge, save: Path | None, through: "Through | None"
) -> "tuple[Predictions, str]":
    """The profile's predictions, with a progress bar, and a line about the run."""
    from rich.console import Console

    messages = Console(stderr=True)
    if not posts.data.has_images:
        messages.print(f"warning: {posts.root} has no images/: only the text runs; grounding is not evaluated")
    say_loading(f"the tools of profile {settings.profile}")

    from namepin.agent.workflows.evaluate import predict_profile

    with count_progress("posts", len(posts.data.posts), messages) as done:
        return predict_profile(posts, settings, knowledge.value, done=done, save=save, through=through)


def _suggest(posts: "EvalPosts", settings: "Settings", asked: str, knowledge: Knowledge) -> int:
    """Pick thresholds on a development split and show why."""
    from rich.console import Console

    from namepin.agent.cli.suggest import show_suggestion, suggest_for
    from namepin.agent.workflows.evaluate import profile_pin
    from namepin.evals.thresholds import check_not_test, parse

    names = parse(asked)
    check_not_test(posts.data)
    say_loading(f"the tools of profile {settings.profile}")
    pin = profile_pin(posts, settings, knowledge.value)
    console = results_console()
    console.print(f"{posts.data.title}, profile {settings.profile}, knowledge {knowledge.value}")
    for suggestion in suggest_for(pin, posts.data, names, Console(stderr=True)):
        show_suggestion(suggestion, console)
    return Exit.DONE


def _experiment(name: str, upload: Upload, protocol: ProtocolName, iou: float) -> "Through":
    """The evaluation as a LangSmith experiment."""
    from namepin.evals.langsmith import Experiment

    return Experiment(name, upload.value, protocol.value, iou).predict
