"""`namepin eval`: score a profile, or anyone's predictions, on a data set."""

import time
from enum import StrEnum
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from namepin.agent.cli.options import Profile, Set
from namepin.tools.errors import Exit, NamepinError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from namepin.agent.workflows.evaluate import Through
    from namepin.evals.datasets.gold import Dataset
    from namepin.evals.scoring.predictions import Predictions


SHOWN_IDS = 10


class DatasetName(StrEnum):
    """The data sets that can be read."""

    gmner = "gmner"
    fmnerg = "fmnerg"
    smner = "smner"
    twitter = "twitter"
    wnut17 = "wnut17"
    sandbox = "sandbox"
    jsonl = "jsonl"


class ProtocolName(StrEnum):
    """Whose counting rules."""

    canonical = "canonical"
    hindex = "hindex"
    tiger = "tiger"
    riveg = "riveg"


class Knowledge(StrEnum):
    """Where the auxiliary knowledge comes from."""

    off = "off"
    recorded = "recorded"
    live = "live"


class Upload(StrEnum):
    """What may be sent to LangSmith."""

    nothing = "nothing"
    texts = "texts"
    images = "images"


class Visual(StrEnum):
    """What becomes of the predicted groundings."""

    predicted = "predicted"
    none = "none"


def evaluate(
    dataset: Annotated[DatasetName, typer.Option("--dataset", help="Which data set.")],
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Its folder, as its authors publish it.")],
    split: Annotated[str, typer.Option("--split", help="Which split: train, dev, test.")],
    profile: Profile = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            help="Score this JSONL; no profile is run. Repeated: mean and deviation over runs.",
        ),
    ] = None,
    protocol: Annotated[
        ProtocolName, typer.Option("--protocol", help="Counting rules: ours, or those of a paper's own script.")
    ] = ProtocolName.canonical,
    knowledge: Annotated[
        Knowledge, typer.Option("--knowledge", help="Auxiliary knowledge; recorded reads knowledge/SPLIT.jsonl.")
    ] = Knowledge.off,
    visual: Annotated[
        Visual, typer.Option("--visual", help="none: score as if every entity were said to be outside the picture.")
    ] = Visual.predicted,
    iou: Annotated[float, typer.Option("--iou", help="From which IoU on a region is right.")] = 0.5,
    ids: Annotated[
        Path | None, typer.Option("--ids", metavar="FILE", help="Only the posts whose id is listed, one a line.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="A second JSONL to compare with, paired by post."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the report as one page; with --save, traces beside it."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--md", metavar="FILE", help="Write the report's tables as Markdown.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Keep the profile's results as JSONL; a rerun resumes."),
    ] = None,
    langsmith: Annotated[
        str | None,
        typer.Option("--langsmith", metavar="NAME", help="Run as an experiment on this LangSmith data set."),
    ] = None,
    upload: Annotated[
        Upload, typer.Option("--upload", help="What LangSmith is sent; nothing: its evaluators run here.")
    ] = Upload.texts,
    suggest: Annotated[
        str | None,
        typer.Option("--suggest", metavar="NAMES", help="gamma,match-threshold: the values best on this dev split."),
    ] = None,
    set_: Set = None,
) -> int:
    """Score a profile, or anyone's predictions, on a data set."""
    if profile and predictions:
        raise NamepinError("E139", "--profile and --predictions exclude each other", mend="give one of the two")
    if predictions and (save or knowledge is not Knowledge.off):
        raise NamepinError("E139", "--knowledge and --save go with --profile", mend="leave them out with --predictions")
    if suggest and predictions:
        raise NamepinError("E139", "--suggest runs a profile", mend="leave out --predictions")
    if langsmith and (predictions or visual is Visual.none):
        raise NamepinError(
            "E139", "--langsmith runs a profile and scores what it says", mend="leave out the other flag"
        )

    from rich.console import Console

    from namepin.evals.datasets.conll import read_ids
    from namepin.evals.report.console import show
    from namepin.evals.report.full import full_report
    from namepin.evals.run import load_dataset, predict_all
    from namepin.evals.scoring.evaluate import check_arguments
    from namepin.evals.scoring.predictions import read_predictions

    check_arguments(protocol.value, iou)
    for file in (json, html, markdown, save):
        check_writable(file)
    messages = Console(stderr=True)
    whole = load_dataset(dataset.value, root, split)
    data = whole.only(read_ids(ids)) if ids else whole
    if suggest:
        return _suggest(data, whole, suggest, profile, set_ or [], knowledge, root, messages)
    if predictions and len(predictions) > 1:
        if against or html or markdown:
            raise NamepinError(
                "E139", "several --predictions give means only", mend="leave out --against, --html, --md"
            )
        systems = [read_predictions(file, data, whole) for file in predictions]
        if visual is Visual.none:
            systems = [system.ungrounded() for system in systems]
        return _over_runs(data, systems, protocol, iou, json)
    if predictions:
        found = read_predictions(predictions[0], data, whole)
        about = f"predictions {predictions[0]}"
    else:
        through = predict_all
        if langsmith:
            from namepin.evals.langsmith import Experiment

            through = Experiment(langsmith, upload.value, protocol.value, iou).predict
        found, about = _run(data, whole, profile, set_ or [], knowledge, root, save, messages, through)
    other = read_predictions(against, data, whole) if against else None
    if visual is Visual.none:
        found, other = found.ungrounded(), other.ungrounded() if other else None
    report = full_report(data, found, protocol=protocol.value, iou=iou, against=other)
    about += ", everything read as not in the picture" if visual is Visual.none else ""
    show(report, Console(), about)
    if json:
        json.write_text(report.model_dump_json(indent=1) + "\n", "utf-8")
    if html:
        from namepin.evals.report.html import write_page

        write_page(html, data, found, report, about, _traces(html, save, data, profile, set_ or []))
    if markdown:
        from namepin.evals.report.markdown import write_markdown

        write_markdown(markdown, found, report, about)
    if report.failed_ids:
        shown = ", ".join(report.failed_ids[:SHOWN_IDS]) + (", ..." if len(report.failed_ids) > SHOWN_IDS else "")
        messages.print(f"failed: {len(report.failed_ids)} of {report.n_posts} posts: {shown}", highlight=False)
    return Exit.SOME_FAILED if report.failed_ids else Exit.DONE


def _traces(
    html: Path, save: Path | None, data: "Dataset", profile: str | None, assignments: list[str]
) -> "Callable[[str], str | None]":
    """Links from the report to each post's own page; none where the results were not saved."""
    if save is None:
        return lambda post_id: None
    from namepin.agent.config.settings import load_settings
    from namepin.agent.render.html import About
    from namepin.agent.render.report_traces import Traces

    settings = load_settings(profile, assignments=assignments)
    pictures = {gold.post.id: gold.post.image for gold in data.posts}
    return Traces(html, save, pictures, About(settings.profile, settings.gate.gamma))


def register(app: typer.Typer) -> None:
    """Add the command to the `namepin` app."""
    app.command("eval")(evaluate)


def _over_runs(
    data: "Dataset", systems: "list[Predictions]", protocol: ProtocolName, iou: float, json: Path | None
) -> int:
    """Mean and deviation of every score, shown and written."""
    from rich.console import Console

    from namepin.evals.report.console import show_spreads
    from namepin.evals.report.full import over_runs

    spreads = over_runs(data, systems, protocol=protocol.value, iou=iou)
    show_spreads(data.title, spreads, Console())
    if json:
        json.write_text(
            dumps({task: spread.model_dump() for task, spread in spreads.items()}, indent=1) + "\n", "utf-8"
        )
    return Exit.SOME_FAILED if any(system.failed for system in systems) else Exit.DONE


def _run(
    data: "Dataset",
    whole: "Dataset",
    profile: str | None,
    assignments: list[str],
    knowledge: Knowledge,
    root: Path,
    save: Path | None,
    messages: "Console",
    through: "Through",
) -> "tuple[Predictions, str]":
    """The profile's predictions, under a progress bar, and a line about the run."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from namepin.agent.config.settings import load_settings
    from namepin.agent.workflows.evaluate import evaluated_pin, predict_with
    from namepin.evals.run import recorded_knowledge

    settings = load_settings(profile, assignments=assignments)
    # The whole split's, whatever --ids says: the knowledge is part of the fingerprint that --save resumes by.
    recorded = recorded_knowledge(root, data.split, whole) if knowledge is Knowledge.recorded else {}
    pin = evaluated_pin(settings, knowledge.value, recorded)
    if not data.has_images:
        messages.print(f"warning: {root} has no images/: the text alone is run; grounding is not evaluated")
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    began = time.perf_counter()
    with Progress(*columns, console=messages, transient=True) as progress:
        bar = progress.add_task("posts", total=len(data.posts))
        found = predict_with(pin, data, lambda _: progress.advance(bar), save, through)
    seconds = time.perf_counter() - began
    about = f"profile {settings.profile}, knowledge {knowledge.value}, {len(data.posts) / seconds:.1f} posts/s"
    return found, about


def _suggest(
    data: "Dataset",
    whole: "Dataset",
    asked: str,
    profile: str | None,
    assignments: list[str],
    knowledge: Knowledge,
    root: Path,
    messages: "Console",
) -> int:
    """Pick thresholds on a development split and show why."""
    from rich.console import Console

    from namepin.agent.cli.suggest import show_suggestion, suggest_for
    from namepin.agent.config.settings import load_settings
    from namepin.agent.workflows.evaluate import evaluated_pin
    from namepin.evals.run import recorded_knowledge
    from namepin.evals.thresholds import parse

    names = parse(asked)
    recorded = recorded_knowledge(root, data.split, whole) if knowledge is Knowledge.recorded else {}
    pin = evaluated_pin(load_settings(profile, assignments=assignments), knowledge.value, recorded)
    console = Console(highlight=False, markup=False)
    console.print(f"{data.title}, profile {pin.settings.profile}, knowledge {knowledge.value}")
    for suggestion in suggest_for(pin, data, names, messages):
        show_suggestion(suggestion, console)
    return Exit.DONE


def check_writable(path: Path | None) -> None:
    """Fail before the run, not after it.

    Raises:
        NamepinError: E500 when the file cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise NamepinError(
            "E500", f"cannot write {str(path)!r}: {error.strerror}", mend="choose another place"
        ) from error
