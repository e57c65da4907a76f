"""`namepin eval` as functions: read the posts, run a profile or read predictions, score them, write the reports."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from namepin.agent.config.settings import Settings
from namepin.evals.datasets.conll import read_ids
from namepin.evals.datasets.gold import Dataset
from namepin.evals.overlap import Overlap
from namepin.evals.report.full import FullReport, full_report, over_runs
from namepin.evals.run import load_dataset, recorded_knowledge
from namepin.evals.scoring.predictions import Predictions, read_predictions
from namepin.evals.scoring.significance import Spread

if TYPE_CHECKING:
    from namepin.agent.api import Namepin
    from namepin.agent.workflows.predict import KnowledgeSource, Through

UNGROUNDED = ", everything read as not in the picture"


@dataclass(frozen=True)
class EvalPosts:
    """The posts of an evaluation.

    Attributes:
        root: the data set's folder.
        whole: the split.
        data: the scored posts of the split.
    """

    root: Path
    whole: Dataset
    data: Dataset

    def predictions(self, file: Path, *, grounded: bool = True) -> Predictions:
        """Predictions of any system from a JSONL file.

        Args:
            file: the JSONL.
            grounded: False reads every entity as not in the picture.

        Raises:
            NamepinError: E130 to E139.
        """
        found = read_predictions(file, self.data, self.whole)
        return found if grounded else found.without_regions()


@dataclass(frozen=True)
class Evaluation:
    """Predictions with their scores.

    Attributes:
        data: the posts.
        predictions: the scored predictions.
        report: the scores.
        about: source of the predictions, for the head of a report.
    """

    data: Dataset
    predictions: Predictions
    report: FullReport
    about: str


def read_posts(dataset: str, root: Path, split: str, ids: Path | None = None) -> EvalPosts:
    """The posts of a split, or only the posts whose ids a file lists.

    Args:
        dataset: one of `namepin.evals.datasets.READERS`.
        root: its folder.
        split: name of the split.
        ids: a file with one post id per line; None for all posts.

    Raises:
        NamepinError: E130 to E139.
    """
    whole = load_dataset(dataset, root, split)
    return EvalPosts(root, whole, whole.only(read_ids(ids)) if ids else whole)


def profile_pin(posts: EvalPosts, settings: Settings, knowledge: "KnowledgeSource" = "off") -> "Namepin":
    """The profile as it is evaluated: with no knowledge, the data set's recorded knowledge, or its own tool.

    Raises:
        NamepinError: E130, E134 for the recorded knowledge; any error of a tool that cannot start.
    """
    from namepin.agent.workflows.predict import evaluated_pin

    # Always the whole split's knowledge, since it is part of the fingerprint by which `save` resumes.
    recorded = recorded_knowledge(posts.root, posts.data.split, posts.whole) if knowledge == "recorded" else {}
    return evaluated_pin(settings, knowledge, recorded)


def predict_profile(
    posts: EvalPosts,
    settings: Settings,
    knowledge: "KnowledgeSource" = "off",
    *,
    done: Callable[[], None] = lambda: None,
    save: Path | None = None,
    through: "Through | None" = None,
) -> tuple[Predictions, str]:
    """A profile's predictions, and a line about the run.

    Args:
        posts: the posts.
        settings: the profile.
        knowledge: source of the auxiliary knowledge.
        done: called after each post.
        save: JSONL file for every result; a rerun resumes from it.
        through: see `namepin.agent.workflows.predict.predict_with`.

    Raises:
        NamepinError: as `profile_pin` and `namepin.agent.workflows.predict.predict_with`.
    """
    from namepin.agent.workflows.predict import predict_with
    from namepin.evals.run import predict_all

    pin = profile_pin(posts, settings, knowledge)
    began = time.perf_counter()
    found = predict_with(pin, posts.data, lambda _: done(), save, through or predict_all)
    rate = len(posts.data.posts) / (time.perf_counter() - began)
    return found, f"profile {settings.profile}, knowledge {knowledge}, {rate:.1f} posts/s"


def evaluate(
    posts: EvalPosts,
    predictions: Predictions,
    about: str = "",
    *,
    protocol: str = "canonical",
    iou: float = 0.5,
    against: Path | None = None,
    grounded: bool = True,
    overlap: Overlap | None = None,
) -> Evaluation:
    """Score predictions, and explain the scores.

    Args:
        posts: the posts.
        predictions: the system's predictions.
        about: source of the predictions.
        protocol: one of `namepin.evals.scoring.protocols.PROTOCOLS`.
        iou: smallest IoU of a right region.
        against: JSONL of a second system's predictions, compared by post.
        grounded: False reads every entity, of both systems, as not in the picture.
        overlap: the posts that the system was trained on; None where it is not known. Too many mark the report.

    Raises:
        NamepinError: E130 to E139 for `against`.
    """
    other = posts.predictions(against, grounded=grounded) if against else None
    predictions = predictions if grounded else predictions.without_regions()
    report = full_report(posts.data, predictions, protocol=protocol, iou=iou, against=other)
    if overlap:
        report = report.model_copy(update={"trained_on": overlap.count_if_recorded})
        about += f", {overlap.mark}" if overlap.mark else ""
    return Evaluation(posts.data, predictions, report, about if grounded else about + UNGROUNDED)


def evaluate_runs(
    posts: EvalPosts, files: Sequence[Path], *, protocol: str = "canonical", iou: float = 0.5, grounded: bool = True
) -> tuple[dict[str, Spread], bool]:
    """Mean and deviation of F1 over several runs, and whether any post failed; arguments as `evaluate`."""
    runs = [posts.predictions(file, grounded=grounded) for file in files]
    return over_runs(posts.data, runs, protocol=protocol, iou=iou), any(run.failed for run in runs)


def write_reports(
    evaluation: Evaluation,
    *,
    json: Path | None = None,
    html: Path | None = None,
    markdown: Path | None = None,
    saved: Path | None = None,
    settings: Settings | None = None,
) -> None:
    """Write the report in the requested forms.

    Args:
        evaluation: the scores.
        json: file for the scores.
        html: file for the page; if the run's results were saved, it links to one page per post.
        markdown: file for the tables.
        saved: the run's results.
        settings: the profile of those results.

    Raises:
        NamepinError: E500 when a file cannot be written.
    """
    report, about = evaluation.report, evaluation.about
    if json:
        json.write_text(report.model_dump_json(indent=1) + "\n", "utf-8")
    if html:
        from namepin.evals.report.html import write_page

        links = _traces(html, saved, evaluation.data, settings) if saved and settings else lambda post_id: None
        write_page(html, evaluation.data, evaluation.predictions, report, about, links)
    if markdown:
        from namepin.evals.report.markdown import write_markdown

        write_markdown(markdown, evaluation.predictions, report, about)


def _traces(html: Path, saved: Path, data: Dataset, settings: Settings) -> Callable[[str], str | None]:
    """Links from the report to each post's page."""
    from namepin.agent.render.html import About
    from namepin.agent.render.report_traces import Traces

    pictures = {gold.post.id: gold.post.image for gold in data.posts}
    return Traces(html, saved, pictures, About(settings.profile, settings.gate.gamma, settings.match.threshold))
