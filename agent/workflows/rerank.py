"""Rerank the uncertain types of results: `python -m namepin.agent.workflows.rerank RESULTS --out FILE`.

For a reranker that reads captions, and a data set whose pictures are gone but whose captions were recorded (GEM section
5.1). The results are a tagger's, as `namepin eval --save` and `namepin batch` write them. What is written is their
form, too: `namepin eval --predictions FILE` scores it. With `--root`, accuracy by entropy is printed (Figure 5).
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from namepin.agent.batch.finished import check_prediction, whole_lines
from namepin.agent.config.build import build_tool
from namepin.agent.config.settings import load_settings
from namepin.agent.render.saved_results import read_saved
from namepin.agent.workflows.evaluate import EvalPosts, read_posts
from namepin.evals.scoring.entropy_bins import GateReport, gate_report
from namepin.evals.scoring.predictions import read_predictions
from namepin.finetune.data.mentions import lines_of, require_fit
from namepin.graphs.policy import GatePolicy
from namepin.graphs.roles import RERANKER
from namepin.graphs.text_nodes import split_label
from namepin.tools.base import Tool, digest
from namepin.tools.errors import NamepinError, in_one_line
from namepin.tools.interfaces import Reranked, RerankRequest
from namepin.tools.jsonl import read_rows
from namepin.tools.media import Media
from namepin.tools.types import Entity, Extraction

Reranker = Tool[RerankRequest, Reranked]


def rerank_result(result: Extraction, reranker: Reranker, gate: GatePolicy, caption: str | None = None) -> Extraction:
    """The result with the reranker's types for the mentions above gamma (GEM section 3.3.2).

    Args:
        result: a tagger's result. Types that were reranked before are chosen again.
        reranker: chooses among the candidates.
        gate: which mentions, and how many candidates.
        caption: the picture's caption; None without one.

    Raises:
        ToolUnavailable: when the reranker cannot answer.
    """
    candidates = [gate.candidates(entity.scores, entity.entropy) for entity in result.entities]
    requests = [
        RerankRequest(
            text=result.text, tokens=result.tokens, token_span=entity.token_span, candidates=among,
            hint={name: entity.scores[name] for name in among}, caption=caption,
        )
        for entity, among in zip(result.entities, candidates, strict=True)
        if among
    ]  # fmt: skip
    answers = iter(reranker.run(requests, Media()) if requests else ())
    entities = [
        _retyped(entity, next(answers).label, gate) if among else entity
        for entity, among in zip(result.entities, candidates, strict=True)
    ]
    made_by = _fingerprint(result, reranker, gate, caption)
    return result.model_copy(update={"entities": tuple(entities), "fingerprint": made_by})


def _fingerprint(result: Extraction, reranker: Reranker, gate: GatePolicy, caption: str | None) -> str:
    """Of everything that decides, the caption, too: it stands nowhere else in the result."""
    return digest([result.fingerprint, reranker.fingerprint, gate.model_dump(mode="json"), caption])


def _retyped(entity: Entity, answer: str, gate: GatePolicy) -> Entity:
    label, fine = split_label(answer)
    tools = [tool for tool in entity.provenance if tool != RERANKER.name]
    return Entity.model_validate(
        entity.model_dump()
        | {
            "label": label, "fine_label": fine, "reranked": True, "provenance": [*tools, RERANKER.name],
            "near_gamma": gate.near(entity.entropy), "type_confidence": None, "type_uncertain": False,
        }
    )  # fmt: skip


def rerank_file(
    results: Path,
    out: Path,
    reranker: Reranker,
    gate: GatePolicy,
    captions: Mapping[str, str] | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> int:
    """Rerank a file of results into another; continues a stopped run.

    Args:
        results: JSONL of results.
        out: the JSONL to write, in the same order.
        reranker: see `rerank_result`.
        gate: see `rerank_result`.
        captions: post id -> caption.
        done: called after each result with its number.

    Returns:
        The number of results.

    Raises:
        NamepinError: E130 and E134 for `results`, E500 when `out` cannot be written, E502 when it has anything
            but earlier results of the same settings; it is then left as it is.
        ToolUnavailable: see `rerank_result`.
    """
    captions, before, end = captions or {}, 0, 0
    rows = read_rows(results, Extraction.model_validate, "a result")
    for line in whole_lines(out, check_prediction):
        before, end, result = line.number, line.end, next(rows, None)
        made_by = result and _fingerprint(result, reranker, gate, captions.get(result.id))
        if result is None or (line.value["id"], line.value["fingerprint"]) != (result.id, made_by):
            what = f"result {before} was made of another result, or with other settings"
            raise NamepinError("E502", what, where=str(out), mend="name another file")
    number = before
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("ab") as file:
            file.truncate(end)  # of a line that a stopped run did not finish
            for number, result in enumerate(rows, before + 1):
                found = rerank_result(result, reranker, gate, captions.get(result.id))
                file.write(f"{found.to_json()}\n".encode())
                file.flush()
                done(number)
    except OSError as error:
        raise NamepinError("E500", f"cannot write {str(out)!r}: {error.strerror}") from error
    return number


def gate_of(results: Path, data: EvalPosts) -> GateReport | None:
    """Accuracy of tagger and reranker by entropy, over the posts that have results (GEM, Figure 5).

    Raises:
        NamepinError: E130 to E139 for the results or the data set.
    """
    part = data.whole.only([result.id for result in read_saved(results)])
    return gate_report(part, read_predictions(results, part, data.whole))


def gate_text(report: GateReport) -> str:
    """The bins that were reranked, a line each, and all of them together."""
    bins = [one for one in report.bins if one.reranked]
    lines = [
        f"entropy {one.low:g} to {one.high:g}: {one.reranked} reranked, right: tagger {one.tagger_on_those:.1%}, "
        f"reranker {one.reranker:.1%}, among the tagger's best {report.k} {one.top:.1%}"
        for one in bins
    ]
    count = sum(one.reranked for one in bins)
    tagger, reranker = (
        sum((getattr(one, key) or 0.0) * one.reranked for one in bins) / max(1, count)
        for key in ("tagger_on_those", "reranker")
    )
    return "\n".join([*lines, f"all: {count} reranked, right: tagger {tagger:.1%}, reranker {reranker:.1%}"])


def main(argv: Sequence[str] | None = None) -> None:
    """Rerank the results of a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="JSONL of results")
    parser.add_argument("--out", type=Path, required=True, help="JSONL to write")
    parser.add_argument("--captions", default="", help="JSONL of id and caption")
    parser.add_argument("--profile", default="starter", help="whose reranker and gate")
    parser.add_argument("--dataset", default="fmnerg", help="of the gold, with --root")
    parser.add_argument("--root", type=Path, help="the gold's folder: also print accuracy by entropy")
    parser.add_argument("--split", default="dev", help="of the gold, with --root")
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="KEY=VALUE")
    given = parser.parse_args(argv)
    settings = load_settings(given.profile, assignments=given.assignments)
    if RERANKER.name not in settings.tools:
        mend = "--set reranker.backend=text"
        raise NamepinError("E139", f"profile {settings.profile} has no reranker", where="--profile", mend=mend)
    data = read_posts(given.dataset, given.root, given.split) if given.root else None
    captions: dict[str, str] = {}
    if given.captions:
        captions = {post: text for post, text in lines_of(given.captions, "caption")}
        require_fit(given.captions, any(result.id in captions for result in read_saved(given.results)), "result")
    reranker = build_tool(RERANKER.name, settings.tools[RERANKER.name])

    def done(number: int) -> None:
        if number % 100 == 0:
            print(f"{number} results", flush=True)

    count = rerank_file(given.results, given.out, reranker, settings.gate, captions, done)
    print(f"{count} results in {given.out}")
    if data and (report := gate_of(given.out, data)):
        print(gate_text(report))


if __name__ == "__main__":
    with in_one_line():
        main()
