"""Runs the papers' tables. A row that cannot run here gives its command and the reason."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from ctypes.util import find_library
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from namepin.agent.config.settings import Settings, load_settings
from namepin.agent.workflows.checkpoint_sizes import NeededWeights, wanted_weights
from namepin.agent.workflows.overlap import checked_overlap, training_seed, weight_folders
from namepin.evals.ablations import Ablation, Cell, Row, ablations, cell
from namepin.evals.datasets.gold import Dataset
from namepin.evals.overlap import Overlap
from namepin.evals.report.full import full_report
from namepin.evals.report.paper_figures import of_systems, published_row
from namepin.evals.run import knowledge_folder, recorded_knowledge
from namepin.evals.scoring.entropy_bins import GateReport, gate_report
from namepin.evals.scoring.predictions import Predictions, read_predictions
from namepin.graphs.names import GraphName
from namepin.graphs.roles import KNOWLEDGE
from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import dump_json
from namepin.tools.types import Extraction

_OF_THE_DATA = ("pictures", "masks", "server")


class RowResult(BaseModel):
    """The outcome of a row: its cells, or the reason why it cannot run.

    Attributes:
        name: the row's name.
        command: runs the row alone.
        before: the commands that make or fetch what the row lacks; `command` then fills it.
        why_not: the reasons why it cannot run here.
        cells: our figures by column.
        paper: the paper's figures by column, as fractions; None where it prints none.
        paper_release: the data release of the paper's figures.
        release: ours.
        n: number of posts of our figures.
        seeds: seeds that the row's weights were trained with.
        gate: accuracy by entropy, where the table shows it.
        note: how the row differs from the paper's.
        trained_on: number of these posts that the row's weights were trained on; None where it is not known.
        mark: the words that go with figures on posts that were trained on.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    command: str
    why_not: list[str]
    cells: dict[str, Cell | None]
    before: list[str] = []
    paper: dict[str, float | None] = {}
    paper_release: str = ""
    release: str = ""
    n: int = 0
    seeds: list[int] = []
    gate: GateReport | None = None
    note: str = ""
    trained_on: int | None = None
    mark: str = ""

    def difference(self, column: str) -> float | None:
        """Ours minus the paper's figure; None where either is missing."""
        ours, theirs = self.cells.get(column), self.paper.get(column)
        return None if ours is None or theirs is None else ours.value - theirs


@dataclass
class Bench:
    """The setting of ablations.

    Attributes:
        dataset: the posts.
        root: their folder.
        profile: a profile that replaces every row's own.
        save: folder for each run's results, so that an interrupted run can continue; None to save nothing.
        done: called after each post.
        set: `--set` overrides for every row, which the rows' own overrule.
        allow_overlap: whether rows whose weights were trained on these posts run; their figures are marked.
    """

    dataset: Dataset
    root: Path
    profile: str | None = None
    save: Path | None = None
    done: Callable[[Extraction], None] | None = None
    set: Sequence[str] = ()
    allow_overlap: bool = False
    _runs: dict[str, Predictions] = field(default_factory=dict)

    def run(self, ablation: Ablation) -> Iterator[RowResult]:
        """Every row, in order. Rows that differ only in the scoring share one run.

        Raises:
            NamepinError: any error of an available tool that cannot start.
        """
        for row in self._rows(ablation):
            why_not = [*obstacles(row), *self._obstacles_of_data(ablation, row)]
            cells: dict[str, Cell | None] = {}
            gate = overlap = None
            if not why_not:
                overlap = self.overlap(row)
                found = self._predictions(row)
                gate = gate_report(self.dataset, found) if ablation.gate else None
                found = found.without_regions() if row.visual == "none" else found
                report = full_report(self.dataset, found, iou=row.iou)
                cells = {column: cell(report, column) for column in ablation.columns}
            paper = published_row(row.source, row.name, self.dataset.name)
            yield RowResult(
                name=row.name,
                before=commands_before(row),
                paper={column: paper.figure(column) if paper else None for column in ablation.columns},
                paper_release=paper.release if paper else "",
                release=self.dataset.release,
                n=len(self.dataset.posts),
                seeds=[] if why_not or row.predictions else training_seeds(row),
                command=command(row, self.dataset.name, self.root, self.dataset.split),
                why_not=why_not,
                cells=cells,
                gate=gate,
                note=row.note,
                trained_on=overlap.count_if_recorded if overlap else None,
                mark=overlap.mark if overlap else "",
            )

    def overlap(self, row: Row) -> Overlap | None:
        """The posts that a row's weights were trained on; None for the predictions of another system.

        Raises:
            NamepinError: E141 where they are too many and not allowed.
        """
        if row.predictions:
            return None
        settings = load_settings(row.profile, assignments=row.set)
        return checked_overlap(settings.dump(), self.dataset, allow=self.allow_overlap)

    def overlaps(self, ablation: Ablation) -> list[Overlap]:
        """The overlaps of all rows that can run here, checked before any of them runs.

        Raises:
            NamepinError: as `overlap`.
        """
        return [found for row in self._ready(ablation) if (found := self.overlap(row))]

    def posts_to_run(self, ablation: Ablation) -> int:
        """Number of graph runs for this table."""
        runs = {run_key(row, self.dataset) for row in self._ready(ablation) if not row.predictions}
        return len(runs) * len(self.dataset.posts)

    def _ready(self, ablation: Ablation) -> list[Row]:
        rows = self._rows(ablation)
        return [row for row in rows if not obstacles(row) and not any(self._obstacles_of_data(ablation, row))]

    def _rows(self, ablation: Ablation) -> list[Row]:
        name, root = self.dataset.name, str(self.root)
        return [row.on(name, self.profile, root=root, below=self.set) for row in ablation.rows]

    def _predictions(self, row: Row) -> Predictions:
        if row.predictions:
            return read_predictions(Path(row.predictions), self.dataset)
        from namepin.agent.workflows.predict import evaluated_pin, predict_with

        key = run_key(row, self.dataset)
        if key not in self._runs:
            known = row.knowledge == "recorded"
            recorded = recorded_knowledge(self.root, self.dataset.split, self.dataset) if known else {}
            pin = evaluated_pin(load_settings(row.profile, assignments=row.set), row.knowledge, recorded)
            saved = self.save / f"{key}.jsonl" if self.save else None
            self._runs[key] = predict_with(pin, self.dataset, self.done, saved)
        return self._runs[key]

    def _obstacles_of_data(self, ablation: Ablation, row: Row) -> Iterator[str]:
        datasets = row.datasets or ablation.datasets
        if self.dataset.name not in datasets:
            yield f"it is defined on {' and '.join(datasets)}"
        if "pictures" in row.needs and not self.dataset.has_images:
            yield f"{self.root} has no images/"
        if "masks" in row.needs and not self.dataset.has_masks:
            yield f"{self.root} has no masks/"
        folder = knowledge_folder(self.root, self.dataset.split, self.dataset)
        known = folder / "knowledge" / f"{self.dataset.split}.jsonl"
        if row.knowledge == "recorded" and not row.predictions and not known.is_file():
            yield f"there is no recorded knowledge {known}"


def run_key(row: Row, dataset: Dataset) -> str:
    """The key of a run; rows with the same key differ only in the scoring."""
    return digest([row.profile, list(row.set), row.knowledge, dataset.name, dataset.sha256, len(dataset.posts)])[:16]


def command(row: Row, dataset: str, root: Path | str, split: str) -> str:
    """The command that runs the row alone."""
    words = ["namepin", "eval", "--dataset", dataset, "--root", str(root), "--split", split]
    if row.predictions:
        words += ["--predictions", row.predictions]
    else:
        words += ["--profile", row.profile, "--knowledge", row.knowledge]
        words += [word for assignment in row.set for word in ("--set", assignment)]
    words += ["--visual", "none"] if row.visual == "none" else []
    words += ["--iou", f"{row.iou:g}"] if row.iou != 0.5 else []
    return shlex.join(words)


def obstacles(row: Row) -> list[str]:
    """The reason why a row cannot run on this machine with any data. The check builds and downloads nothing."""
    if row.predictions:
        if Path(row.predictions).is_file():
            return []
        made_by = ablations().train.get(row.predictions)
        missing = f"another system's predictions: {row.predictions} is missing"
        return [f"predictions that must be made: {made_by}" if made_by else missing]
    untrained = list(_missing_weights(row.set))
    if row.graph not in list(GraphName):
        return [f"the graph {row.graph} is not built yet", *untrained]
    try:
        settings = load_settings(row.profile, assignments=row.set)
    except NamepinError as error:
        return [*untrained, str(error)]
    if settings.graph != row.graph:
        return [*untrained, f"profile {row.profile} has the graph {settings.graph}, but the row needs {row.graph}"]
    chat = _servers(settings, row.knowledge) if "server" in row.needs else _keys(settings, row.knowledge)
    return [*untrained, *_lacking(settings, row.needs), *_files(settings), *_weights(settings), *chat]


def commands_before(row: Row) -> list[str]:
    """The commands that make or fetch what a row lacks on this machine, in order."""
    if row.predictions:
        made_by = ablations().train.get(row.predictions)
        return [made_by] if made_by and not Path(row.predictions).is_file() else []
    found = list(_training_commands(row.set))
    try:
        settings = load_settings(row.profile, assignments=row.set)
    except NamepinError:
        return found
    return [*sorted({weights.command for weights in _unfetched(settings)}), *found]


def training_seeds(row: Row) -> list[int]:
    """The seeds that a row's weights were trained with, each once."""
    folders = weight_folders(load_settings(row.profile, assignments=row.set).dump()).values()
    return sorted({seed for folder in folders if (seed := training_seed(folder)) is not None})


def _training_commands(assignments: Sequence[str]) -> Iterator[str]:
    return (ablations().train[path] for path in _unmade(assignments))


def _unmade(assignments: Sequence[str]) -> Iterator[str]:
    train = ablations().train
    for path in dict.fromkeys(assignment.partition("=")[2] for assignment in assignments):
        if path in train and not Path(path).exists():
            yield path


def _missing_weights(assignments: Sequence[str]) -> Iterator[str]:
    for path in _unmade(assignments):
        kind = "a file that must be made" if path.endswith(".jsonl") else "weights that must be trained"
        yield f"{kind}: {ablations().train[path]}"


def _files(settings: Settings) -> Iterator[str]:
    """The annotated samples that are not there."""
    from namepin.tools.examples.config import ExamplesConfig

    for tool in settings.tools.values():
        if isinstance(tool.config, ExamplesConfig):
            for file in tool.config.samples:
                if not Path(file).is_file():
                    yield f"annotated samples {file} are not here: --set examples.samples=FILE"


def _lacking(settings: Settings, needs: Sequence[str]) -> Iterator[str]:
    for role in needs:
        if role not in _OF_THE_DATA and role not in settings.tools:
            yield f"profile {settings.profile} has no {role}"


def _weights(settings: Settings) -> Iterator[str]:
    yield from sorted({f"missing weights: {weights.command}" for weights in _unfetched(settings)})
    if any(_device(tool.config) == "cuda" for tool in settings.tools.values()) and not _has_gpu():
        yield f"profile {settings.profile} needs a GPU"


@cache
def _has_gpu() -> bool:
    """Whether PyTorch can use a GPU. PyTorch, whose import takes seconds, is imported only if there is a driver."""
    if not (find_library("cuda") or find_library("nvcuda") or Path("/dev/kfd").exists()):
        return False
    import torch

    return torch.cuda.is_available()


def _unfetched(settings: Settings) -> Iterator[NeededWeights]:
    """Published weights that are not on this machine."""
    for role, tool in settings.tools.items():
        if role == "knowledge" or role == "captioner":
            continue  # not called without pictures or with recorded knowledge
        for weights in wanted_weights(tool.config):
            if weights.weights not in ablations().train and not weights.here:
                yield weights


def _without_server(settings: Settings, knowledge: str) -> list[str]:
    """The roles that ask a chat model for which no address is set."""
    from namepin.tools.llm.config import ChatConfig

    asked = {r: tool.config for r, tool in settings.tools.items() if knowledge == "live" or r != KNOWLEDGE.name}
    return [r for r, config in asked.items() if isinstance(config, ChatConfig) and config.base_url is None]


def _servers(settings: Settings, knowledge: str) -> Iterator[str]:
    """The roles that ask an open model, which only a server of the user's has."""
    for role in _without_server(settings, knowledge):
        model = getattr(settings.tools[role].config, "model", None)
        yield f"no server of {model} is set: --set {role}.base_url=URL, or NAMEPIN_{role.upper()}__BASE_URL"


def _keys(settings: Settings, knowledge: str) -> Iterator[str]:
    """The models behind a paid address whose key is not set."""
    from namepin.tools.llm.config import KEY_VARIABLE

    waiting = _without_server(settings, knowledge)
    if waiting and not os.environ.get(KEY_VARIABLE):
        servers = " ".join(f"--set {role}.base_url=URL" for role in waiting)
        yield f"{KEY_VARIABLE} is not set, which {', '.join(waiting)} would need; or use your own server: {servers}"


def _device(config: BaseModel) -> str | None:
    return str(getattr(config, "device", None))


def write_json(path: Path, ablation: Ablation, dataset: Dataset, results: Sequence[RowResult]) -> None:
    """The table as JSON, with fractions; `cells` is empty for a row that could not run. `theirs` is in percent."""
    head = {"name": ablation.name, "source": ablation.source, "title": ablation.title, "dataset": dataset.title}
    rows = [
        result.model_dump(mode="json") | {"difference": {c: result.difference(c) for c in ablation.columns}}
        for result in results
    ]
    theirs = [row.model_dump(mode="json") for row in of_systems(ablation.theirs, dataset.name)]
    table = {**head, "sha256": dataset.sha256, "rows": rows} | ({"theirs": theirs} if theirs else {})
    path.write_text(dump_json(table, indent=1) + "\n", "utf-8")
