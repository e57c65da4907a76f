"""A recorded run as one page: the steps with their times, the tools' answers, the decisions and their reasons."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup
from PIL import Image

from namepin.agent.render.html import data_uri, environment, heat_layer, png_uri, segments_of, source_hash, warmth
from namepin.agent.render.saved_results import read_saved
from namepin.agent.render.view import COLOURS, ink_on, presence, printable, short, typing
from namepin.graphs import roles
from namepin.graphs.recording.cassette import Call, Cassette, PostRecord, Setup
from namepin.graphs.recording.cassette_files import LINES
from namepin.graphs.run import heat_maps
from namepin.graphs.state import PostState
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.types import Entity, Extraction

ROLE_OF: Mapping[str, str] = {
    "caption": roles.CAPTIONER.name,
    "examples": roles.EXAMPLES.name,
    "knowledge": roles.KNOWLEDGE.name,
    "tag": roles.TAGGER.name,
    "rerank": roles.RERANKER.name,
    "match": roles.MATCHER.name,
    "trace": roles.TRACER.name,
    "describe": roles.DESCRIBER.name,
    "expand": roles.EXPANSION.name,
    "entail": roles.ENTAILMENT.name,
    "ground": roles.GROUNDER.name,
    "extract": roles.EXTRACTOR.name,
    "consult": roles.EXTRACTOR.name,
    "segment": roles.SEGMENTER.name,
}
"""Step -> the role that it calls; `gate` and `assemble` call no tool."""

_LONGEST, _MOST = 600, 60
"""Bounds on the shown part of one string, and of one list, in a request or an answer."""

_MAP = 240
"""A heat map's longer side, pixels."""


@dataclass(frozen=True)
class Run:
    """One post's run. A file of results has no record, so it has neither calls nor heat maps."""

    extraction: Extraction
    record: PostRecord | None = None
    setup: Setup | None = None
    picture: Image.Image | None = None
    heat: Mapping[int, bytes] = field(default_factory=dict)


def read_runs(source: Path, images: Path | None = None) -> list[Run]:
    """The runs of a cassette's folder, or of a JSONL file of results.

    Args:
        source: output of `extract --record` or `--out`: a cassette's folder, `predictions.jsonl`, or its folder.
        images: the folder of the posts' pictures, which neither output contains.

    Raises:
        NamepinError: E401 when there is no run, or the cassette is damaged; E406 when a picture is not the recorded
            one.
    """
    file = source / "predictions.jsonl" if source.is_dir() and not (source / LINES).exists() else source
    if file.is_file():
        runs = [Run(extraction) for extraction in read_saved(file)]
        if not runs:
            mend = "name a folder of `extract --record`, or a predictions.jsonl"
            raise NamepinError("E401", "no run can be read", where=str(file), mend=mend)
        return runs
    cassette = Cassette.load(source)
    return [
        Run(
            record.result,
            record,
            cassette.setups[record.line.setup],
            _picture(record, images),
            _heat(record, cassette.blobs, source),
        )
        for record in cassette.posts.values()
        if record.result is not None
    ]


def _picture(record: PostRecord, images: Path | None) -> Image.Image | None:
    named, ref = record.line.post.image, record.line.image
    if images is None or named is None or ref is None:
        return None
    loaded = load_image(images / named)
    if loaded.ref != ref:
        raise NamepinError("E406", "this is not the recorded picture", where=str(images / named))
    return loaded.image


def _heat(record: PostRecord, blobs: Mapping[str, bytes], source: Path) -> dict[int, bytes]:
    """The run's heat maps by the index of their entity in the result."""
    state: dict[str, Any] = {"mentions": [], "findings": [], "entities": []}
    for step in record.steps:
        state |= step.changed
    try:
        return heat_maps(cast(PostState, state), blobs)
    except (KeyError, IndexError, TypeError) as error:
        what = f"the cassette is damaged: post {record.line.post.id!r} has steps that fit no graph"
        raise NamepinError("E401", what, where=str(source), mend="record it again") from error


def trace_page(runs: Sequence[Run]) -> str:
    """The whole HTML document; it loads nothing and runs no script."""
    hues = [{"hue": hue, "ink": ink_on(hue)} for hue in COLOURS]
    shown = [_run(number, run) for number, run in enumerate(runs, 1)]
    style = environment().get_template("trace.css.j2").render(hues=hues, warmth=warmth(), runs=shown)
    return (
        environment()
        .get_template("trace.html.j2")
        .render(
            runs=shown,
            style=Markup(style),
            style_hash=source_hash(style),
        )
    )


def _run(number: int, run: Run) -> dict[str, Any]:
    found, setup = run.extraction, run.setup
    policy = setup.policy if setup else {}
    longest = max(found.timings_ms.values(), default=0.0) or 1.0
    return {
        "anchor": f"run-{number}",
        "x": found,
        "graph": setup.graph if setup else None,
        "profile": (setup.profile.get("profile") or "") if setup else "",
        "gamma": policy.get("gate", {}).get("gamma"),
        "threshold": policy.get("match", {}).get("threshold"),
        "segments": segments_of(found),
        "picture": data_uri(run.picture) if run.picture else None,
        "maps": [_map(index, blob, found) for index, blob in sorted(run.heat.items())],
        # The picture below all its maps, once per page.
        "ground": data_uri(run.picture, 2 * _MAP) if run.picture and run.heat else None,
        "total": sum(found.timings_ms.values()),
        "steps": [_step(name, run, longest) for name in _steps(run)],
        "decisions": [_decision(index, entity, policy) for index, entity in enumerate(found.entities)],
    }


def _map(index: int, blob: bytes, found: Extraction) -> dict[str, Any]:
    """A heat map's layer at its shown size; without an address if the blob is not a map."""
    assert found.image is not None
    width, height = found.image.width, found.image.height
    factor = _MAP / max(width, height)
    try:
        address = png_uri(heat_layer(blob, found.image))
    except ValueError:
        address = None
    return {
        "index": index,
        "hue": index % len(COLOURS),
        "entity": found.entities[index],
        "address": address,
        "width": max(1, round(width * factor)),
        "height": max(1, round(height * factor)),
    }


def _steps(run: Run) -> list[str]:
    """The names of the steps in running order; for a result without a record, the roles with a time."""
    if run.record is None:
        return list(run.extraction.timings_ms)
    ran = [name.partition("[")[0] for step in run.record.steps for name in step.ran]
    return list(dict.fromkeys(ran))


def _step(name: str, run: Run, longest: float) -> dict[str, Any]:
    role = ROLE_OF.get(name, name if run.record is None else None)
    made = [call for call in run.record.calls.values() if call.tool == role] if run.record else []
    ms = run.extraction.timings_ms.get(role) if role else None
    return {
        "name": name,
        "role": role,
        "ms": ms,
        "share": 100 * (ms or 0) / longest,
        "fingerprint": run.setup.tools.get(role) if run.setup and role else None,
        "calls": [_call(call) for call in made],
        "failures": [printable(call.failure) for call in made if call.failure],
    }


def _call(call: Call) -> dict[str, str]:
    answer = {"failure": call.failure} if call.failure else call.result
    return {"asked": _json(call.request), "answered": _json(answer)}


def _decision(index: int, entity: Entity, policy: Mapping[str, Any]) -> dict[str, Any]:
    gamma = policy.get("gate", {}).get("gamma")
    gate = ""
    if entity.entropy is not None and gamma is not None:
        if entity.entropy <= gamma:
            gate = "certain: the tagger's type stands"
        else:
            gate = "uncertain: " + ("reranked" if entity.reranked else "kept, as no reranker answered")
    best = sorted(entity.scores.items(), key=lambda pair: -pair[1])[:5]
    return {
        "hue": index % len(COLOURS),
        "entity": entity,
        "kind": typing(entity),
        "presence": presence(entity),
        "gate": gate,
        "candidates": [(name.replace("_", " "), value) for name, value in best],
    }


def _json(value: Any) -> str:
    return printable_lines(json.dumps(_bound(value), ensure_ascii=False, indent=1))


def printable_lines(text: str) -> str:
    """`printable` with line breaks kept."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _bound(value: Any) -> Any:
    """A JSON value with long strings and lists truncated."""
    if isinstance(value, str):
        return short(value, _LONGEST) if len(value) > _LONGEST else value
    if isinstance(value, Mapping):
        return {key: _bound(inner) for key, inner in value.items()}
    if isinstance(value, list):
        rest = [f"... {len(value) - _MOST} more"] if len(value) > _MOST else []
        return [*map(_bound, value[:_MOST]), *rest]
    return value
