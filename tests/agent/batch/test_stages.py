"""The graph in stages gives the results of one process: with pictures, with a model's server, and with failures."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from namepin.agent.api import Namepin
from namepin.agent.batch.local_engine import identity_of, run_batch
from namepin.agent.batch.parquet import write_parquet
from namepin.agent.batch.source import Source
from namepin.agent.batch.stages import Passage, Stage, StageWorker, stages_of
from namepin.agent.config.build import batched_calls
from namepin.agent.config.settings import Settings, load_settings
from namepin.graphs.roles import ROLES
from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from support.batch_samples import timeless, write_posts
from support.knowledge_server import Killable, knowledge_of, knowledge_server
from support.paths import ROOT

TEXT_ONLY = ("matcher.backend=off", "tracer.backend=off", "segmenter.backend=off")


def starter(*assignments: str) -> Settings:
    return load_settings("starter", assignments=assignments, environment={})


def staged(settings: Settings, source: Source) -> list[Passage]:
    """All rows through all stages, each time as they would travel between processes."""
    passages = [Passage.of(row) for row in source.rows()]
    for stage in stages_of(settings):
        worker = StageWorker(settings, stage)
        passages = pickle.loads(pickle.dumps(worker.run(pickle.loads(pickle.dumps(passages)))))
    return passages


def whole(settings: Settings, source: Source, out: Path) -> list[dict[str, Any]]:
    run_batch(Namepin(settings, batched_calls(settings)), source, out)
    return timeless(out / "predictions.jsonl")


def results(passages: list[Passage]) -> Iterator[dict[str, Any]]:
    for passage in passages:
        if passage.extraction is not None:
            row = json.loads(passage.extraction.to_json())
            yield {key: value for key, value in row.items() if key not in ("timings_ms", "fingerprint")}


def without_fingerprint(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "fingerprint"} for row in rows]


@pytest.mark.parametrize("profile", ["gem", "riveg", "modern", "mllm", "starter"])
def test_stages_of_profile_list_roles_in_graph_order(profile: str) -> None:
    settings = load_settings(profile, assignments=["knowledge.model=m"], environment={})
    stages = stages_of(settings)
    roles = [role for stage in stages for role in stage.roles]
    assert roles == [role for role in ROLES if role in settings.tools]
    assert all(one.kind != next.kind for one, next in zip(stages, stages[1:], strict=False))
    assert {"llm", "text", "vision"} >= {stage.kind for stage in stages}


def test_stages_of_settings_without_tools_are_one_text_stage() -> None:
    assert stages_of(starter().model_copy(update={"tools": {}})) == (Stage("text", ()),)


def test_stages_with_pictures_equal_local_engine(tmp_path: Path) -> None:
    settings, source = starter(), Source(str(ROOT / "examples" / "posts.jsonl"))
    assert [stage.kind for stage in stages_of(settings)] == ["text", "vision"]
    expected = whole(settings, source, tmp_path)
    found = staged(settings, source)
    assert list(results(found)) == without_fingerprint(expected)
    assert any(entity["box"] for row in expected for entity in row["entities"])
    assert all(set(passage.fingerprints) == set(settings.tools) for passage in found)
    assert all(not passage.calls and not passage.blobs for passage in found), "a finished post travels light"
    timings = [passage.extraction.timings_ms for passage in found if passage.extraction]
    assert all(one["tagger"] > 1 for one in timings), "what the tagger took, not what reading its answer took"


def test_stage_of_llm_server_equals_local_engine_and_asks_once(tmp_path: Path) -> None:
    """The server explains, talks nonsense, or refuses; results and warnings are those of one process."""
    source = Source(str(write_posts(tmp_path / "posts.jsonl", 10)))
    with knowledge_server() as server:
        settings = starter(*knowledge_of(server), *TEXT_ONLY)
        assert [stage.kind for stage in stages_of(settings)] == ["llm", "text"]
        expected = whole(settings, source, tmp_path / "out")
        asked = server.asked
        assert list(results(staged(settings, source))) == without_fingerprint(expected)
        assert server.asked == 2 * asked, "the second stage asks nothing again"
    assert {row["status"] for row in expected} == {"ok", "degraded"}


def test_stage_after_sigkill_of_only_server_degrades_later_posts(tmp_path: Path) -> None:
    """Posts are degraded; run again with a server, they equal an undisturbed run."""
    source = Source(str(write_posts(tmp_path / "posts.jsonl", 8)))
    with knowledge_server() as server:
        expected = without_fingerprint(whole(starter(*knowledge_of(server), *TEXT_ONLY), source, tmp_path / "out"))
        killable = Killable()
        settings = starter(*knowledge_of(killable), *TEXT_ONLY)
        first, second = stages_of(settings)
        worker, rows = StageWorker(settings, first), [Passage.of(row) for row in source.rows()]
        passages = worker.run(rows[:3])
        assert killable.kill() >= 3
        found = list(results(StageWorker(settings, second).run([*passages, *worker.run(rows[3:])])))
        again = starter(*knowledge_of(server), *TEXT_ONLY)
        repaired = list(results(StageWorker(again, second).run(StageWorker(again, first).run(rows[3:]))))
    assert found[:3] == expected[:3] and [row["id"] for row in found] == [row["id"] for row in expected]
    assert all(row["status"] == "degraded" and row["warnings"][0]["tool"] == "knowledge" for row in found[3:])
    assert repaired == expected[3:]


def test_stages_with_failing_rows_report_same_failures_as_local_engine(tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": "a", "text": "Bob Dylan"}),
        "{",
        json.dumps({"id": "b", "text": "Oslo", "image": "gone.jpg"}),
        json.dumps({"id": "a", "text": "twice"}),
    ]
    (tmp_path / "posts.jsonl").write_text("\n".join(lines))
    settings, source = starter(), Source(str(tmp_path / "posts.jsonl"))
    expected = whole(settings, source, tmp_path / "out")
    found = staged(settings, source)
    assert list(results(found)) == without_fingerprint(expected)
    failed = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [(p.number, p.failure.code, p.failure.what) for p in found if p.failure] == [
        (one["row"], one["code"], one["reason"]) for one in failed
    ]


def test_later_stage_with_changed_picture_fails_post_with_e120(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = starter()
    picture = tmp_path / "picture.jpg"
    picture.write_bytes((ROOT / "examples" / "astronaut.jpg").read_bytes())
    row = {"id": "a", "text": "Eileen Collins in orbit", "image": "picture.jpg"}
    (tmp_path / "posts.jsonl").write_text(json.dumps(row))
    passages = [Passage.of(row) for row in Source(str(tmp_path / "posts.jsonl")).rows()]
    first, second = stages_of(settings)
    passages = StageWorker(settings, first).run(passages)
    picture.write_bytes((ROOT / "examples" / "chelsea.jpg").read_bytes())
    (passage,) = StageWorker(settings, second).run(passages)
    assert passage.failure is not None and passage.failure.code == "E120"
    assert passage.extraction is not None and passage.extraction.status == "failed"


def test_stage_worker_with_missing_adapter_raises_e21x(tmp_path: Path) -> None:
    settings = starter("tagger.adapter=/nowhere")
    with pytest.raises(NamepinError, match="E21"):
        StageWorker(settings, stages_of(settings)[0])


def test_write_parquet_holds_same_rows_as_predictions_jsonl(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    settings, source = starter(), Source(str(ROOT / "examples" / "posts.jsonl"))
    whole(settings, source, tmp_path)
    table = parquet.read_table(write_parquet(tmp_path)).to_pylist()
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert [json.loads(row["json"]) for row in table] == rows
    for row, one in zip(table, rows, strict=True):
        assert (row["id"], row["status"]) == (one["id"], one["status"])
        assert [e["box"] for e in row["entities"]] == [e["box"] for e in one["entities"]]
    assert not list(tmp_path.glob("*.part"))


def test_identity_of_run_ignores_server_addresses_of_same_model(tmp_path: Path) -> None:
    source = Source(str(write_posts(tmp_path / "posts.jsonl", 1)))

    def settings_hash(*given: str) -> str:
        pin = Namepin(starter("knowledge.model=m", *(f"knowledge.{one}" for one in given)))
        return digest(identity_of(pin, source))

    one = settings_hash("base_url=http://127.0.0.1:1/v1")
    assert settings_hash("base_url=http://127.0.0.1:2/v1", 'servers=["http://127.0.0.1:3/v1"]') == one
    assert settings_hash("base_url=http://127.0.0.1:1/v1", "temperature=1") != one
