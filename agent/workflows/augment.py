"""Knowledge and expansions from several language models, merged into one training set (RiVEG's "Mix").

Each model explains every post and expands every gold mention once. A teacher may also write the thoughts that lead to a
post's gold answer, for the extractor's SFT. Its answers are appended to its own file, so that a
stopped run can continue. The data set's own rows are another part (`namepin.agent.workflows.augment_files`). Dev and
test are never mixed: one model explains them, as in a normal run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from namepin.agent.config.build import build_tool
from namepin.agent.config.settings import load_settings
from namepin.agent.workflows.augment_files import Parts, add_row, add_tokens, disk_errors, key_of, tokens_of
from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.evals.run import load_dataset
from namepin.tools.base import Tool
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.extractor.teacher import ReasoningTeacher, TeacherConfig, TeachRequest
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import ExpandRequest, KnowledgeRequest
from namepin.tools.labels import COARSE8_TO_4
from namepin.tools.llm.usage import Usage, count_usage
from namepin.tools.media import Media

KINDS: Mapping[str, Sequence[str]] = {
    "knowledge": ("id", "knowledge"),
    "expansions": ("id", "text", "expansion"),
    "reasoning": ("id", "reasoning"),
}
"""The kinds of rows, each in its own folder, with their keys; the last key is that of the answer."""

DEFAULT = ("knowledge", "expansions")

_ROLES = {"knowledge": "knowledge", "expansions": "expansion", "reasoning": "expansion"}
"""The role whose settings name the server; the teacher has expansion's."""


@dataclass
class ModelUsage:
    """The requests to one model in this run.

    Attributes:
        rows: number of lines written in this run.
        kept: number of existing lines.
        failed: number of questions without an answer; the next run asks them again.
        prompt_tokens: tokens of this run's questions, as reported by the server, including unusable answers.
        completion_tokens: tokens of this run's answers.
        before: both numbers of the earlier runs.
    """

    rows: int = 0
    kept: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    before: tuple[int, int] = (0, 0)

    def paid_before(self, part: Path) -> None:
        """Count the tokens that earlier runs recorded beside a part."""
        prompt, answers = tokens_of(part)
        self.before = (self.before[0] + prompt, self.before[1] + answers)

    def cost(self, prompt_price: float, answer_price: float) -> str:
        """Tokens of this run and of all runs and, with prices per million, their cost."""
        now = (self.prompt_tokens, self.completion_tokens)
        told = []
        for prompt, answers in (now, (now[0] + self.before[0], now[1] + self.before[1])):
            cost = (prompt * prompt_price + answers * answer_price) / 1e6
            told.append(f"{prompt} + {answers} tokens" + (f", {cost:.4f}" if cost else ""))
        return f"{told[0]} now; {told[1]} in all"


@dataclass
class Augmented:
    """The models' parts by name, and the line counts of the merged files."""

    models: dict[str, ModelUsage] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)


def augment(
    name: str,
    root: Path,
    split: str,
    models: Sequence[str],
    out: Path,
    assignments: Sequence[str] = (),
    wanted: Sequence[str] = DEFAULT,
) -> Augmented:
    """Ask all models about a split, then merge their answers with all earlier answers.

    Args:
        name: the data set, as named by `namepin eval --dataset`.
        root: its folder.
        split: name of the split.
        models: model names on the server of `knowledge.base_url` and `expansion.base_url`.
        out: folder for `knowledge/SPLIT.jsonl` and `expansions/SPLIT.jsonl`, and each model's own files beside them.
        assignments: the `--set` flags: `knowledge.base_url=...`, `expansion.base_url=...`, and so on.
        wanted: the kinds of rows.

    Raises:
        NamepinError: E139 for several models on a split other than `train`, or for a split that another model
            explained before, E130 to E139 for the data set, E134 for a file in `out` that cannot be merged, E20x for
            the settings, E310 and E311 when no model can be called, E500 when `out` cannot be written.
    """
    if len(set(models)) > 1 and split != "train":
        what = f"{split} would be augmented by {len(set(models))} models: an evaluation split is never mixed"
        raise NamepinError("E139", what, where="--models", mend="name one model, or --split train")
    dataset = load_dataset(name, root, split)
    done = Augmented()
    with disk_errors(out):
        kinds = {kind: _begun(Parts(out / kind, split, KINDS[kind]), models) for kind in wanted}
    for model in dict.fromkeys(models):
        done.models[model] = usage = ModelUsage()
        for kind, parts in kinds.items():
            _one_model(kind, model, dataset, parts, assignments, usage)
    for kind, parts in kinds.items():
        with disk_errors(out):
            done.merged[kind] = parts.merge()
    return done


def _begun(parts: Parts, models: Sequence[str]) -> Parts:
    """Create the folder and check its content before the first request."""
    parts.folder.mkdir(parents=True, exist_ok=True)
    others = [file for file in parts.every() if parts.rows(file) and file not in map(parts.part, models)]
    others += [parts.merged_file] if parts.strange() else []
    if others and parts.split != "train":
        what = f"{parts.split} is explained already, and an evaluation split is never mixed"
        raise NamepinError("E139", what, where=str(others[0]), mend="choose another --out")
    return parts


def _one_model(
    kind: str, model: str, dataset: Dataset, parts: Parts, assignments: Sequence[str], usage: ModelUsage
) -> None:
    role = _ROLES[kind]
    both = [f"{one}.{key}" for one in dict.fromkeys(_ROLES.values()) for key in ("backend=chat", f"model={model}")]
    settings = load_settings("starter", assignments=[*both, *assignments])
    tool = _teacher(settings.tools[role].config) if kind == "reasoning" else build_tool(role, settings.tools[role])
    part = parts.part(model)
    with disk_errors(part):
        parts.end_line(part)
        known = {key_of(row) for row in parts.rows(part) if row.get("model") == model}
    usage.kept += len(known)
    usage.paid_before(part)
    for gold in dataset.posts:
        asked = [(key, row) for key, row in _questions(kind, gold) if key not in known]
        for _, (request, row) in asked:
            answer, spent = _ask(tool, request, gold)
            usage.prompt_tokens += spent.prompt_tokens
            usage.completion_tokens += spent.completion_tokens
            with disk_errors(part):
                add_tokens(part, spent)
                if answer is None:
                    usage.failed += 1
                    continue
                add_row(part, {**row, "model": model, KINDS[kind][-1]: answer.text})
            usage.rows += 1


def _questions(kind: str, gold: GoldPost) -> Iterator[tuple[tuple[str, str], tuple[Any, dict[str, str]]]]:
    """The questions about a post: key, request, and the row without the answer."""
    post = gold.post
    if kind == "knowledge":
        yield (post.id, ""), (KnowledgeRequest(text=post.text), {"id": post.id})
        return
    if kind == "reasoning":
        yield (post.id, ""), (_teach_request(gold), {"id": post.id})
        return
    for entity in {entity.text: entity for entity in gold.entities}.values():
        label = COARSE8_TO_4.get(entity.label, entity.label)
        request = ExpandRequest(text=post.text, entity=entity.text, label=label)
        yield (post.id, entity.text), (request, {"id": post.id, "post": post.text, "text": entity.text})


def _teach_request(gold: GoldPost) -> TeachRequest:
    """The question about a post's gold entities; the picture is added when it is asked."""
    entities = [
        f"{one.text} ({one.fine or one.label}, {'in' if one.groundable else 'not in'} the picture)"
        for one in gold.entities
    ]
    return TeachRequest(text=gold.post.text, entities=tuple(entities))


def _teacher(settings: BaseModel) -> ReasoningTeacher:
    """The teacher on the server of these settings."""
    given = settings.model_dump()
    known = set(TeacherConfig.model_fields) - {"max_tokens"}
    return ReasoningTeacher(TeacherConfig(**{key: value for key, value in given.items() if key in known}))


def _ask(tool: Tool[Any, Any], request: Any, gold: GoldPost) -> tuple[Any, Usage]:
    """The answer or None, and its cost; an unusable answer costs too."""
    images = {}
    if isinstance(request, TeachRequest) and gold.post.image:
        loaded = load_image(gold.post.image)
        request, images = request.model_copy(update={"image": loaded.ref}), {loaded.ref.sha256: loaded.image}
    with count_usage() as spent:
        try:
            return tool.run([request], Media(images=images))[0], spent
        except ToolUnavailable:
            return None, spent
