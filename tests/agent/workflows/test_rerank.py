"""Reranking of a tagger's saved results with a reranker that reads captions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from namepin.agent.workflows.evaluate import read_posts
from namepin.agent.workflows.rerank import gate_of, gate_text, main, rerank_file, rerank_result
from namepin.graphs.policy import GatePolicy
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import Reranked, RerankRequest
from namepin.tools.media import Media
from namepin.tools.types import Entity, Extraction
from support import tiny_rerankers as tiny

GATE = GatePolicy(gamma=0.5, k=2)


class LastCandidate:
    """Chooses the last candidate, and keeps what it was asked."""

    name: ClassVar[str] = "reranker"
    version: ClassVar[int] = 1
    fingerprint = "f" * 64

    def __init__(self) -> None:
        self.asked: list[RerankRequest] = []

    def run(self, requests: Sequence[RerankRequest], media: Media) -> list[Reranked]:
        self.asked += requests
        return [Reranked(label=request.candidates[-1]) for request in requests]


def result(post: str = "1") -> Extraction:
    """A sure name, and one whose three types are uncertain."""
    sure: dict[str, Any] = {"label": "PER", "fine_label": "actor", "scores": {"actor": 0.99, "author": 0.01}}
    hard = {"label": "LOC", "fine_label": "city", "scores": {"city": 0.5, "country": 0.3, "sports_team": 0.2}}
    return Extraction(
        id=post,
        text="Ada in Paris",
        tokens=("Ada", "in", "Paris"),
        fingerprint="a" * 64,
        entities=(
            Entity(text="Ada", start=0, end=3, token_span=(0, 1), entropy=0.05, provenance=("tagger",), **sure),
            Entity(
                text="Paris", start=7, end=12, token_span=(2, 3), entropy=1.0, type_confidence=0.4, type_uncertain=True,
                provenance=("tagger",), **hard,
            ),
        ),
    )  # fmt: skip


def test_rerank_result_asks_about_uncertain_mentions_only() -> None:
    tool = LastCandidate()
    found = rerank_result(result(), tool, GATE, "the Eiffel tower")
    (asked,) = tool.asked
    assert (asked.candidates, asked.caption) == (("city", "country"), "the Eiffel tower")
    assert asked.hint == {"city": 0.5, "country": 0.3} and asked.token_span == (2, 3)
    ada, paris = found.entities
    assert ada == result().entities[0]
    assert (paris.label, paris.fine_label, paris.reranked) == ("LOC", "country", True)
    assert paris.provenance == ("tagger", "reranker")
    assert paris.type_confidence is None and not paris.type_uncertain
    assert paris.scores == result().entities[1].scores  # the tagger's, beside which a report shows the reranker
    assert found.fingerprint != result().fingerprint


def test_rerank_result_of_other_gate_or_tagger_has_other_fingerprint() -> None:
    made = [rerank_result(result(), LastCandidate(), gate) for gate in (GATE, GATE.model_copy(update={"gamma": 0.6}))]
    other = rerank_result(result().model_copy(update={"fingerprint": "b" * 64}), LastCandidate(), GATE)
    assert len({one.fingerprint for one in (*made, other)}) == 3


def test_rerank_file_stopped_within_a_line_resumes_to_same_bytes(tmp_path: Path) -> None:
    source, whole, out = (tmp_path / name for name in ("in.jsonl", "whole.jsonl", "out.jsonl"))
    source.write_text("".join(result(str(i)).to_json() + "\n" for i in range(3)), "utf-8")
    assert rerank_file(source, whole, LastCandidate(), GATE) == 3
    out.write_bytes(whole.read_bytes()[:-100])
    tool = LastCandidate()
    assert rerank_file(source, out, tool, GATE) == 3
    assert out.read_bytes() == whole.read_bytes() and len(tool.asked) == 1


def test_rerank_file_with_results_of_other_settings_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(result().to_json() + "\n", "utf-8")
    rerank_file(source, out, LastCandidate(), GATE)
    before = out.read_bytes()
    with pytest.raises(NamepinError, match=r"E502.*other settings"):
        rerank_file(source, out, LastCandidate(), GATE.model_copy(update={"k": 3}))
    assert out.read_bytes() == before


def test_rerank_file_resumed_with_another_caption_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(result().to_json() + "\n", "utf-8")
    rerank_file(source, out, LastCandidate(), GATE, {"1": "a tower"})
    with pytest.raises(NamepinError, match=r"E502.*other settings"):
        rerank_file(source, out, LastCandidate(), GATE, {"1": "a bridge"})


@pytest.mark.parametrize("other", ["a poem\n", "{}\n", ""])
def test_rerank_file_never_overwrites_a_file_of_something_else(other: str, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(result().to_json() + "\n", "utf-8")
    before = other + result("2").to_json() + "\n"
    out.write_text(before, "utf-8")
    with pytest.raises(NamepinError, match="E502"):
        rerank_file(source, out, LastCandidate(), GATE)
    assert out.read_text("utf-8") == before


def test_rerank_file_of_fewer_results_than_before_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(result(str(i)).to_json() + "\n" for i in range(2)), "utf-8")
    rerank_file(source, out, LastCandidate(), GATE)
    source.write_text(result("0").to_json() + "\n", "utf-8")
    with pytest.raises(NamepinError, match="E502"):
        rerank_file(source, out, LastCandidate(), GATE)


def test_rerank_command_with_captions_of_other_posts_is_refused(tmp_path: Path) -> None:
    source, captions = tmp_path / "in.jsonl", tmp_path / "captions.jsonl"
    source.write_text(result().to_json() + "\n", "utf-8")
    captions.write_text(json.dumps({"id": "7", "caption": "a tower"}) + "\n", "utf-8")
    chosen = ["--set", "reranker.backend=text", "--set", f"reranker.weights={tmp_path}"]
    with pytest.raises(NamepinError, match="E135"):
        main([str(source), "--out", str(tmp_path / "out.jsonl"), "--captions", str(captions), *chosen])


def test_rerank_command_reads_captions_with_a_text_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out, captions = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "captions.jsonl"))
    source.write_text(result().to_json() + "\n", "utf-8")
    captions.write_text(json.dumps({"id": "1", "caption": "a tower"}) + "\n", "utf-8")
    weights = tiny.save_llama(tmp_path / "llama")
    chosen = ["reranker.backend=text", f"reranker.weights={weights}", "reranker.dtype=float32"]
    sets = [part for assignment in chosen for part in ("--set", assignment)]
    main([str(source), "--out", str(out), "--captions", str(captions), *sets])
    assert capsys.readouterr().out == f"1 results in {out}\n"
    found = Extraction.model_validate_json(out.read_text("utf-8"))
    assert [entity.reranked for entity in found.entities] == [False, True]


def test_gate_text_shows_both_on_reranked_mentions_of_posts_with_results(tmp_path: Path) -> None:
    gold = "IMGID:1\nAda\tB-person\tB-actor\nin\tO\tO\nParis\tB-location\tB-country\n\nIMGID:2\nHi\tO\tO\n"
    (tmp_path / "txt_fine").mkdir()
    (tmp_path / "txt_fine" / "dev.txt").write_text(gold, "utf-8")
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(result().to_json() + "\n", "utf-8")
    rerank_file(source, out, LastCandidate(), GATE)
    report = gate_of(out, read_posts("fmnerg", tmp_path, "dev"))
    assert report is not None
    assert gate_text(report).splitlines() == [
        "entropy 1 to 1.5: 1 reranked, right: tagger 0.0%, reranker 100.0%, among the tagger's best 5 100.0%",
        "all: 1 reranked, right: tagger 0.0%, reranker 100.0%",
    ]


def test_rerank_command_without_reranker_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match=r"E139.*no reranker"):
        main([str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")])
