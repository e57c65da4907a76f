"""Knowledge and expansions from several language models, merged into one training set (RiVEG's "Mix").

Every post is explained, and every gold mention expanded, once by each model. What each has said lies in a file of its
own, to which lines are added as they come: a run that was stopped goes on there. Dev and test are never mixed: they are
explained by one model, as a run would be.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.build import build_tool
from agent.settings import load_settings
from evals.gold import Dataset, GoldPost
from evals.run import load_dataset
from tools.base import Tool
from tools.errors import NamepinError, ToolUnavailable
from tools.interfaces import ExpandRequest, KnowledgeRequest
from tools.labels import COARSE8_TO_4
from tools.media import Media

KINDS = ("knowledge", "expansions")
"""What is written, each in a folder of its own; asked of the roles `knowledge` and `expansion`."""

_ROLES = {"knowledge": "knowledge", "expansions": "expansion"}


@dataclass
class Told:
    """What one model was asked in this run.

    Attributes:
        rows: lines written now.
        kept: lines that were there already.
        failed: questions without an answer; the next run asks them again.
        prompt_tokens: of all questions whose server said so.
        completion_tokens: likewise of the answers.
    """

    rows: int = 0
    kept: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class Augmented:
    """The models' parts, by name, and the lines of the merged files."""

    models: dict[str, Told] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)


def augment(
    name: str, root: Path, split: str, models: Sequence[str], out: Path, assignments: Sequence[str] = ()
) -> Augmented:
    """Ask all models about a split, then merge.

    Args:
        name: the data set, as `namepin eval --dataset` calls it.
        root: its folder.
        split: of it.
        models: names that the server of `knowledge.base_url` and `expansion.base_url` knows.
        out: gets `knowledge/SPLIT.jsonl` and `expansions/SPLIT.jsonl`, and beside them each model's own.
        assignments: of `--set`: `knowledge.base_url=...`, `expansion.base_url=...`, and so on.

    Raises:
        NamepinError: E139 for several models on a split that is not `train`, E130 to E139 for the data set, E20x for
            the settings, E310 and E311 where no model can be asked.
    """
    if len(set(models)) > 1 and split != "train":
        what = f"{split} would be augmented by {len(set(models))} models: a split that is scored on is never mixed"
        raise NamepinError("E139", what, where="--models", mend="name one model, or --split train")
    dataset = load_dataset(name, root, split)
    done = Augmented()
    for model in dict.fromkeys(models):
        done.models[model] = told = Told()
        for kind in KINDS:
            file = out / kind / f"{split}.{_safe(model)}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            _one_model(kind, model, dataset, file, assignments, told)
    for kind in KINDS:
        parts = [out / kind / f"{split}.{_safe(model)}.jsonl" for model in done.models]
        done.merged[kind] = _merge(parts, out / kind / f"{split}.jsonl")
    return done


def _one_model(kind: str, model: str, dataset: Dataset, file: Path, assignments: Sequence[str], told: Told) -> None:
    role = _ROLES[kind]
    both = [f"{one}.{key}" for one in _ROLES.values() for key in ("backend=chat", f"model={model}")]
    settings = load_settings("starter", assignments=[*both, *assignments])
    tool = build_tool(role, settings.tools[role])
    known = {_key(row) for row in _rows(file)}
    told.kept += len(known)
    with file.open("a", encoding="utf-8") as stream:
        for gold in dataset.posts:
            asked = [(key, row) for key, row in _questions(kind, gold) if key not in known]
            for _, (request, row) in asked:
                answer = _ask(tool, request)
                if answer is None:
                    told.failed += 1
                    continue
                told.rows += 1
                told.prompt_tokens += answer.prompt_tokens or 0
                told.completion_tokens += answer.completion_tokens or 0
                said = {"knowledge": answer.text} if kind == "knowledge" else {"expansion": answer.text}
                stream.write(json.dumps({**row, "model": model, **said}, ensure_ascii=False) + "\n")
                stream.flush()


def _questions(kind: str, gold: GoldPost) -> Iterator[tuple[tuple[str, str], tuple[Any, dict[str, str]]]]:
    """What is asked about a post: its key, the request, and the row without the answer."""
    post = gold.post
    if kind == "knowledge":
        yield (post.id, ""), (KnowledgeRequest(text=post.text), {"id": post.id})
        return
    for entity in {entity.text: entity for entity in gold.entities}.values():
        label = COARSE8_TO_4.get(entity.label, entity.label)
        request = ExpandRequest(text=post.text, entity=entity.text, label=label)
        yield (post.id, entity.text), (request, {"id": post.id, "post": post.text, "text": entity.text})


def _ask(tool: Tool[Any, Any], request: Any) -> Any:
    try:
        return tool.run([request], Media())[0]
    except ToolUnavailable:
        return None


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["id"]), str(row.get("text", ""))


def _rows(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; one that a kill cut off is taken off it.

    Raises:
        NamepinError: E134 for a line that is none of ours.
    """
    if not file.is_file():
        return []
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        file.write_bytes(whole)
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append(row)
            _key(row)
        except (ValueError, KeyError, TypeError) as error:
            raise NamepinError("E134", f"not a row of ours: {error!r}", where=f"{file}:{number}") from error
    return rows


def _merge(parts: Sequence[Path], target: Path) -> int:
    """All models' lines, those of a post together, in the order of the first model's file; returns how many."""
    every: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for part in parts:
        for row in _rows(part):
            every.setdefault(_key(row), []).append(row)
    lines = [json.dumps(row, ensure_ascii=False) for rows in every.values() for row in rows]
    target.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return len(lines)


def _safe(model: str) -> str:
    """A model's name as a part of a file's."""
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in model).strip(".") or "model"
