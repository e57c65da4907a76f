"""Batches: in order, resumable at any moment, one process per folder, and a line for every failure."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from namepin.agent.api import Namepin
from namepin.agent.batch.local_engine import run_batch
from namepin.agent.batch.source import SeenIds, Source
from namepin.agent.config.settings import load_settings
from namepin.graphs.batched_calls import BatchedCalls
from namepin.graphs.calls import LiveCalls
from namepin.tools.errors import NamepinError
from namepin.tools.images import load
from support.batch_samples import start, timeless, write_posts
from support.cli import Cli
from support.hostile_pictures import slow_jpeg
from support.paths import ROOT

TEXT_ONLY = ("--set", "matcher.backend=off", "--set", "tracer.backend=off", "--set", "segmenter.backend=off")


def failures(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "failures.jsonl").read_text("utf-8").splitlines()]


def test_batch_keeps_input_order_and_equals_single_extractions(cli: Cli, tmp_path: Path) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", 40, row=7)
    out = tmp_path / "out"
    assert cli("batch", posts, "--out", out, *TEXT_ONLY).code == 0
    rows = timeless(out / "predictions.jsonl")
    assert [row["id"] for row in rows] == [f"p{i:04}" for i in range(40)] and rows[0]["extra"] == {"row": 7}
    pin = Namepin(load_settings("starter", assignments=TEXT_ONLY[1::2], environment={}))
    for row in rows:
        alone = json.loads(pin.extract({"id": row["id"], "text": row["text"]}).to_json())
        assert [_exact(e) for e in row["entities"]] == [_exact(e) for e in alone["entities"]]
        for one, other in zip(row["entities"], alone["entities"], strict=True):
            assert one["entropy"] == pytest.approx(other["entropy"], abs=1e-4) or one["near_gamma"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["status"], manifest["rows"], manifest["failed"], manifest["resumed"]) == ("done", 40, 0, 0)


def _exact(entity: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        entity[key] for key in ("text", "start", "end", "label", "fine_label", "groundable", "box", "reranked")
    )


def test_batch_rerun_of_finished_folder_leaves_predictions_unchanged(cli: Cli, tmp_path: Path) -> None:
    posts, out = write_posts(tmp_path / "posts.jsonl", 5), tmp_path / "out"
    cli("batch", posts, "--out", out, *TEXT_ONLY)
    before = (out / "predictions.jsonl").read_bytes()
    ran = cli("batch", posts, "--out", out, *TEXT_ONLY)
    assert ran.code == 0 and "5 of them before" in ran.err and (out / "predictions.jsonl").read_bytes() == before


@pytest.mark.parametrize("torn", [0, 1, 17, 200, 1000, 2500])
def test_batch_resume_with_torn_predictions_completes_them_exactly(cli: Cli, tmp_path: Path, torn: int) -> None:
    posts, whole, out = write_posts(tmp_path / "posts.jsonl", 6), tmp_path / "whole", tmp_path / "out"
    lines = posts.read_text().splitlines()
    posts.write_text("\n".join([*lines[:2], "not json", *lines[2:]]))
    for folder in (whole, out):
        assert cli("batch", posts, "--out", folder, *TEXT_ONLY).code == 1
    data = (out / "predictions.jsonl").read_bytes()
    (out / "predictions.jsonl").write_bytes(data[: len(data) - torn])
    cli("batch", posts, "--out", out, *TEXT_ONLY)
    assert timeless(out / "predictions.jsonl") == timeless(whole / "predictions.jsonl")
    assert failures(out) == failures(whole) and [f["row"] for f in failures(out)] == [3]


def test_batch_with_bad_rows_lists_each_in_failures_jsonl(cli: Cli, tmp_path: Path) -> None:
    posts, out = tmp_path / "posts.jsonl", tmp_path / "out"
    good = [{"id": "a", "text": "Bob"}, {"id": "c", "text": "Oslo", "image": "gone.jpg"}, {"id": "d", "text": "Paris"}]
    bad = ["{", "7", '{"id": "a", "text": "twice"}', '{"id": "b", "text": " "}', "", '{"text": "no id"}']
    rows = [json.dumps(good[0]), *bad, *map(json.dumps, good[1:])]
    posts.write_bytes("\n".join(rows).encode() + b'\n\xff\xfe{"id"')
    ran = cli("batch", posts, "--out", out)
    assert ran.code == 1
    loading, counts, failed, degraded = ran.err.splitlines()
    assert loading == "loading the tools of profile starter"
    assert counts.startswith("9 rows, 6 failed, 1 degraded, ")
    assert failed.startswith(f"failed: {posts}:2: E103: not JSON") and failed.endswith("failures.jsonl has each")
    assert degraded.startswith("degraded: c: W101 images: ") and degraded.endswith("predictions.jsonl has each")
    assert [row["id"] for row in timeless(out / "predictions.jsonl")] == ["a", "c", "d"]
    assert [f["code"] for f in failures(out)] == ["E103", "E103", "E104", "E101", "E103", "E103"]
    assert timeless(out / "predictions.jsonl")[1]["status"] == "degraded"
    _, *again = cli("batch", posts, "--out", out).err.splitlines()
    assert again[0].startswith("9 rows, 9 of them before, 6 failed, 1 degraded, ") and again[1:] == [failed, degraded]


@pytest.mark.parametrize("change", ["input", "profile", "foreign"])
def test_batch_resume_with_other_input_or_profile_raises_e502(cli: Cli, tmp_path: Path, change: str) -> None:
    posts, out = write_posts(tmp_path / "posts.jsonl", 3), tmp_path / "out"
    cli("batch", posts, "--out", out, *TEXT_ONLY)
    more = {"input": (), "profile": ("--set", "gate.gamma=1"), "foreign": ()}[change]
    if change == "input":
        write_posts(posts, 4)
    if change == "foreign":
        (out / "manifest.json").unlink()
    ran = cli("batch", posts, "--out", out, *TEXT_ONLY, *more)
    assert ran.code == 2 and "E502" in ran.err and "--out" in ran.err


def test_batch_resume_after_limit_completes_all_rows(cli: Cli, tmp_path: Path) -> None:
    posts, out = write_posts(tmp_path / "posts.jsonl", 6), tmp_path / "out"
    cli("batch", posts, "--out", out, "--limit", "2", *TEXT_ONLY)
    assert cli("batch", posts, "--out", out, *TEXT_ONLY).code == 0
    assert [row["id"] for row in timeless(out / "predictions.jsonl")] == [f"p{i:04}" for i in range(6)]


def test_batch_resume_after_sigkill_loses_no_row(cli: Cli, tmp_path: Path) -> None:
    posts, whole, out = write_posts(tmp_path / "posts.jsonl", 100), tmp_path / "whole", tmp_path / "out"
    assert cli("batch", posts, "--out", whole, *TEXT_ONLY).code == 0
    kills, moments = 0, sorted(random.Random(8).sample(range(1, 75), 3))
    for wanted in moments:
        process = start([posts, "--out", out, *TEXT_ONLY])
        while process.poll() is None:
            if (out / "predictions.jsonl").exists() and (out / "predictions.jsonl").read_bytes().count(b"\n") >= wanted:
                process.kill()
                kills += 1
                break
            time.sleep(0.002)
        process.communicate()
    assert kills == len(moments)
    assert cli("batch", posts, "--out", out, *TEXT_ONLY).code == 0
    assert timeless(out / "predictions.jsonl") == timeless(whole / "predictions.jsonl")
    assert json.loads((out / "manifest.json").read_text())["resumed"] >= moments[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_batch_on_sigint_or_sigterm_finishes_pending_posts(tmp_path: Path, number: signal.Signals) -> None:
    posts, out = write_posts(tmp_path / "posts.jsonl", 20_000), tmp_path / "out"
    process = start([posts, "--out", out, *TEXT_ONLY])
    while not ((out / "predictions.jsonl").exists() and (out / "predictions.jsonl").stat().st_size):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 130 and b"the same command resumes" in said
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "stopped" and manifest["rows"] == len(timeless(out / "predictions.jsonl"))


def test_batch_on_folder_in_use_raises_e501(cli: Cli, tmp_path: Path) -> None:
    posts, out = write_posts(tmp_path / "posts.jsonl", 5000), tmp_path / "out"
    process = start([posts, "--out", out, *TEXT_ONLY])
    while not (out / "predictions.jsonl").exists():
        time.sleep(0.01)
    ran = cli("batch", posts, "--out", out, *TEXT_ONLY)
    process.kill()
    process.communicate()
    assert ran.code == 2 and "E501" in ran.err


def test_batch_on_full_disk_raises_e500_and_resumes(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    posts, out = write_posts(tmp_path / "posts.jsonl", 60), tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        ran = cli("batch", posts, "--out", out, *TEXT_ONLY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert ran.code == 2 and "E500" in ran.err and "resumes" in ran.err
    assert cli("batch", posts, "--out", out, *TEXT_ONLY).code == 0
    assert [row["id"] for row in timeless(out / "predictions.jsonl")] == [f"p{i:04}" for i in range(60)]


def test_batch_with_slow_picture_degrades_only_its_post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.jpg").write_bytes(slow_jpeg())
    ordinary = {"image": str(ROOT / "examples" / "chelsea.jpg")}
    rows = [{"id": f"p{n}", "text": f"Bob Dylan {n}", **ordinary} for n in range(6)]
    rows.insert(3, {"id": "slow", "text": "Bob Dylan", "image": "slow.jpg"})
    posts = tmp_path / "posts.jsonl"
    posts.write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(load, "DEADLINE_S", 0.01)
    pin = Namepin(load_settings("starter", assignments=TEXT_ONLY[1::2], environment={}))
    run_batch(pin, Source(str(posts)), tmp_path / "out")
    done = timeless(tmp_path / "out" / "predictions.jsonl")
    assert [row["status"] for row in done] == ["ok"] * 3 + ["degraded"] + ["ok"] * 3
    assert done[3]["warnings"][0]["code"] == "W101" and "E129" in done[3]["warnings"][0]["message"]


def test_batch_with_backward_clock_has_valid_seconds(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts, clock = write_posts(tmp_path / "posts.jsonl", 5), iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    assert cli("batch", posts, "--out", tmp_path / "out", *TEXT_ONLY).code == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["seconds"] >= 0


def test_batch_reads_parquet_and_dataset_sources(cli: Cli, tmp_path: Path, data_root: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist([{"id": f"p{i}", "text": "Bob Dylan", "image": None, "k": i} for i in range(3)])
    parquet.write_table(table, tmp_path / "posts.parquet")
    assert cli("batch", tmp_path / "posts.parquet", "--out", tmp_path / "a", *TEXT_ONLY).code == 0
    assert [row["extra"] for row in timeless(tmp_path / "a" / "predictions.jsonl")] == [{"k": i} for i in range(3)]
    dev = f"gmner:{data_root / 'gmner'}:dev"
    assert cli("batch", dev, "--out", tmp_path / "b", "--limit", "4", *TEXT_ONLY).code == 0
    assert len(timeless(tmp_path / "b" / "predictions.jsonl")) == 4
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nonsense")
    for name in (tmp_path / "bad.parquet", tmp_path / "none.jsonl", "gmner:/nowhere:dev"):
        assert cli("batch", name, "--out", tmp_path / "c", *TEXT_ONLY).code == 2


def test_seen_ids_detect_repeats_among_70000_ids() -> None:
    seen = SeenIds()
    assert all(seen.add(str(i)) for i in range(70_000))
    assert not any(seen.add(str(i)) for i in range(0, 70_000, 997)) and seen.add("new")


def test_batch_only_masks_segments_boxes_of_any_method(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "Eileen Collins in orbit", "image": str(ROOT / "examples" / "astronaut.jpg"),
         "entities": [{"label": "PER", "start": 0, "end": 14, "box": [100, 20, 300, 400]},
                      {"label": "LOC", "token_span": [3, 4], "box": None}]},
        {"id": "b", "tokens": ["Bob", "D"], "entities": [{"label": "PER", "token_span": [0, 2], "box": [1, 2, 3, 4]}]},
        {"id": "c", "text": "Bob", "image": str(ROOT / "examples" / "astronaut.jpg"),
         "entities": [{"label": "PER", "start": 0, "end": 3, "box": [9, 9, 1, 1]}]},
        {"id": "d", "text": "Bob", "entities": [{"label": "PER", "start": 1, "end": 9}]},
    ]  # fmt: skip
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert cli("batch", tmp_path / "p.jsonl", "--only", "masks", "--out", tmp_path / "out").code == 1
    a, b, c, d = timeless(tmp_path / "out" / "predictions.jsonl")
    collins, orbit = a["entities"]
    assert collins["box"] == [100, 20, 300, 400] and collins["mask"] and collins["provenance"] == ["given", "segmenter"]
    assert orbit["mask"] is None and orbit["groundable"] is False
    assert b["entities"][0]["groundable"] is None and b["status"] == "ok"
    assert [c["status"], d["status"]] == ["failed", "failed"]
    assert [f["code"] for f in failures(tmp_path / "out")] == ["E137", "E134"]


def test_batch_with_pictures_equals_single_extractions(tmp_path: Path) -> None:
    settings = load_settings("starter", environment={})
    alone = Namepin(settings)
    assert isinstance(alone.calls, LiveCalls)
    together = Namepin(settings, BatchedCalls(alone.calls.tools))
    run_batch(together, Source(str(ROOT / "examples" / "posts.jsonl")), tmp_path / "out")
    rows = [json.loads(line) for line in (ROOT / "examples" / "posts.jsonl").read_text("utf-8").splitlines()]
    for found, row in zip(timeless(tmp_path / "out" / "predictions.jsonl"), rows, strict=True):
        image = ROOT / "examples" / row["image"] if row.get("image") else None
        expected = json.loads(alone.extract({"id": row["id"], "text": row["text"]}, image).to_json())
        assert [_exact(e) for e in found["entities"]] == [_exact(e) for e in expected["entities"]]


def test_source_of_missing_file_raises_e104() -> None:
    with pytest.raises(NamepinError, match="E104"):
        Source("nowhere.jsonl")
