"""The report as one HTML page that opens offline: scores, plots, and every wrong post."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, ImageOps

from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost
from namepin.evals.report import plots
from namepin.evals.report.console import NAMES
from namepin.evals.report.full import FullReport, score_of
from namepin.evals.report.paper_figures import beside
from namepin.evals.scoring.attribution import Outcome, outcomes
from namepin.evals.scoring.curves import calibration, confusion, iou_curve, match_curve
from namepin.evals.scoring.evaluate import TASKS
from namepin.evals.scoring.predicted import Predicted
from namepin.evals.scoring.predictions import Predictions
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import Rectangle
from namepin.tools.labels import SCHEMES
from namepin.tools.types import Mask

THUMBNAIL = 360
"""Longest side, in pixels, of the pictures in the error browser."""


@dataclass(frozen=True)
class Lost:
    """One gold entity, or one extra prediction, of a wrong post."""

    text: str
    gold: str
    predicted: str
    cause: str


@dataclass(frozen=True)
class WrongPost:
    """A post of the error browser; `pieces` are stretches of text with their classes (g: gold, p: predicted)."""

    id: str
    pieces: list[tuple[str, str]]
    entities: list[Lost]
    causes: str
    picture: str | None
    size: tuple[int, int] | None
    boxes: list[tuple[str, Rectangle, str]]
    masks: list[tuple[str, str, str]]


def write_page(
    path: Path,
    dataset: Dataset,
    predictions: Predictions,
    report: FullReport,
    about: str,
    trace: Callable[[str], str | None] = lambda post_id: None,
) -> None:
    """Write the page.

    Args:
        path: the file.
        dataset: the gold.
        predictions: the scored predictions.
        report: the scores.
        about: the origin of the predictions, for the head of the page.
        trace: post id -> a link to its trace, or None; called for every post on the page.

    Raises:
        NamepinError: E500 when the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("namepin.evals.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    found = outcomes(dataset, predictions, report.iou)
    wrong = wrong_posts(dataset, predictions, found)
    page = environment.get_template("report.html.j2").render(
        report=report,
        about=about,
        trace=trace,
        rows=[
            (NAMES[task], score_of(report, task), report.intervals.get(task))
            for task in TASKS
            if _is_shown(report, task)
        ],
        plots=_plots(dataset, predictions, report, found),
        published=[(row, row.obstacles(report)) for row in beside(report)],
        names=NAMES,
        ours={task: score for task in TASKS if (score := score_of(report, task))},
        wrong=wrong,
        causes=[cause for cause in (*report.attribution.steps, "extra") if any(cause in post.causes for post in wrong)],
        tokens=predictions.tool_tokens,
        tool_ms=sorted(predictions.tool_ms.items(), key=lambda pair: -pair[1]),
    )
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise NamepinError("E500", f"cannot write {str(path)!r}: {error.strerror}") from error


def _is_shown(report: FullReport, task: str) -> bool:
    """Tasks with a score, and the data set's main tasks without one."""
    return score_of(report, task) is not None or task in ("mner", "eeg", "gmner")


def _plots(
    dataset: Dataset, predictions: Predictions, report: FullReport, found: Sequence[Outcome]
) -> list[tuple[str, str, Markup]]:
    """(title, remark, SVG) of every plot with data."""
    made: list[tuple[str, str, str]] = []
    for task in ("mner", "fine.mner"):
        if report.by_type_of.get(task):
            made.append((f"F1 by type, {NAMES[task]}", "", plots.type_bars(report.by_type_of[task])))
    task = NAMES[report.attribution.task]
    made.append((f"What became of the gold entities, {task}", "One cause each: the first step that failed.",
                 plots.cause_bars({str(k): v for k, v in report.attribution.causes.items()})))  # fmt: skip
    table = confusion(dataset, found)
    if table:
        labels = SCHEMES[dataset.scheme]
        made.append(("Types, where the span is right", "", plots.confusion(table, labels)))
    curves = calibration(dataset, found)
    if curves:
        remark = f"Expected calibration error {curves.error:.3f}; entities whose span is right."
        made.append(("Reliability of the type", remark, plots.reliability(curves.bins)))
        if curves.by_entropy:
            made.append(
                ("What the gate sees", "Accuracy of the type by its entropy.", plots.entropy_curve(curves.by_entropy))
            )
    for task in ("gmner", "smner"):
        if score_of(report, task):
            made.append((f"{NAMES[task]} over IoU thresholds", "",
                         plots.curve(iou_curve(dataset, predictions, task), "IoU threshold", "F1")))  # fmt: skip
    points = match_curve(dataset, predictions, report.iou) if report.gmner else []
    if points:
        recalls = [(recall, precision) for _, precision, recall in points]
        made.append(
            ("Grounding over match score", "From the surest claim down.", plots.curve(recalls, "recall", "precision"))
        )
    # Our own plots. Their text (type names) comes from the schemes, not from posts.
    return [(title, remark, Markup(svg)) for title, remark, svg in made]


def wrong_posts(dataset: Dataset, predictions: Predictions, found: Sequence[Outcome]) -> list[WrongPost]:
    """Every post with a lost entity or an extra prediction, in the data set's order."""
    by_post: dict[str, list[Outcome]] = {}
    for outcome in found:
        by_post.setdefault(outcome.post.post.id, []).append(outcome)
    wrong = []
    for gold in dataset.posts:
        predicted = predictions.entities.get(gold.post.id, ())
        results = by_post.get(gold.post.id, [])
        used = [id(outcome.predicted) for outcome in results if outcome.predicted]
        extra = [p for p in predicted if id(p) not in used]
        lost = [o for o in results if o.cause != "right"]
        if lost or extra:
            wrong.append(_wrong_post(gold, predicted, lost, extra))
    return wrong


def _wrong_post(
    gold: GoldPost, predicted: Sequence[Predicted], lost: Sequence[Outcome], extra: Sequence[Predicted]
) -> WrongPost:
    entities = [Lost(o.entity.text, _truth(o.entity), _format(o.predicted), o.cause) for o in lost]
    entities += [Lost(p.text, "", _format(p), "extra") for p in extra]
    boxes = [("gold", box, e.text) for e in gold.entities for box in e.boxes or ()]
    boxes += [("predicted", p.box, p.text) for p in predicted if p.box]
    picture, size = _thumbnail(gold.post.image)
    masks: list[tuple[str, str, str]] = []
    if picture:
        masks = [("gold", _outline(mask), e.text) for e in gold.entities for mask in e.masks or ()]
        masks += [("predicted", _outline(p.mask), p.text) for p in predicted if p.mask]
    causes = " ".join(dict.fromkeys(entity.cause for entity in entities))
    return WrongPost(gold.post.id, _pieces(gold, predicted), entities, causes, picture, size or gold.size, boxes, masks)


def _kind(label: str, fine: str | None, groundable: bool | None) -> str:
    where = {None: "", True: ", in the picture", False: ", not in the picture"}[groundable]
    return (f"{label} / {fine}" if fine else label) + where


def _truth(entity: GoldEntity) -> str:
    return _kind(entity.label, entity.fine, None if entity.boxes is None else entity.groundable)


def _format(predicted: Predicted | None) -> str:
    return _kind(predicted.label, predicted.fine, predicted.groundable) if predicted else "nothing"


def _pieces(gold: GoldPost, predicted: Sequence[Predicted]) -> list[tuple[str, str]]:
    """The text, split where a gold or predicted entity begins or ends."""
    text = gold.post.text
    golden = [entity.span for entity in gold.entities]
    found = [p.span for p in predicted if p.span[0] >= 0]
    cuts = sorted({0, len(text), *(offset for span in golden + found for offset in span)})
    pieces = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        marks = [
            mark for mark, spans in (("g", golden), ("p", found)) if any(a <= start and end <= b for a, b in spans)
        ]
        pieces.append((text[start:end], " ".join(marks)))
    return pieces


def _outline(mask: Mask) -> str:
    """A mask's outlines as an SVG path in the picture's pixels, simplified by up to 1% of the longer side."""
    import cv2

    borders, _ = cv2.findContours(mask.to_array().astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    straight = [cv2.approxPolyDP(border, 0.01 * max(mask.size), True).reshape(-1, 2) for border in borders]
    return " ".join("M" + "L".join(f"{x},{y}" for x, y in points.tolist()) + "Z" for points in straight)


def _thumbnail(image: str | None) -> tuple[str | None, tuple[int, int] | None]:
    """A small JPEG as a data URL, and the size of the upright picture, which the boxes refer to."""
    if image is None or not Path(image).is_file():
        return None, None
    try:
        with Image.open(image) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, Image.DecompressionBombError):
        return None, None
    size = upright.size
    upright.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), size
