"""Signals to the driver of `namepin batch --engine ray`; the stages run in this process, without Ray."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from namepin.agent.api import Namepin
from namepin.agent.batch import ray_engine
from namepin.agent.batch.local_engine import run_batch
from namepin.agent.batch.source import Source
from namepin.agent.batch.stages import Passage, StageWorker, stages_of
from namepin.agent.batch.writing import RowGroup
from namepin.agent.config.build import batched_calls
from namepin.agent.config.settings import Settings, load_settings
from support.batch_samples import timeless, write_posts

TEXT_ONLY = [f"{role}.backend=off" for role in ("matcher", "tracer", "segmenter")]
POSTS, SIGNALLED, TOGETHER = 20, 8, 3
BEFORE = SIGNALLED - 1
"""A signal ends the wait for a row at once, here in the middle of a group; the next run has that row."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_driver_after_a_signal_keeps_what_came_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    settings = load_settings("starter", assignments=TEXT_ONLY, environment={})
    workers = [StageWorker(settings, stage) for stage in stages_of(settings)]
    moments = iter([SIGNALLED])

    def passages(_: Settings, row_groups: Callable[[], Iterator[RowGroup]], *bounds: int) -> Iterator[Passage]:
        signalled = next(moments, None)
        for number_of_group, group in enumerate(row_groups()):
            chunk = [Passage.of(row, number_of_group, row.number in group.due) for row in group.rows if group.due]
            for worker in workers:
                chunk = worker.run(chunk)
            for passage in chunk:
                if passage.number == signalled:
                    os.kill(os.getpid(), number)
                yield passage

    monkeypatch.setattr(ray_engine, "_cluster", lambda *_: nullcontext())
    monkeypatch.setattr(ray_engine, "_passages", passages)
    before = signal.getsignal(number)
    source, out = Source(str(write_posts(tmp_path / "posts.jsonl", POSTS))), tmp_path / "out"
    progress, stopped = ray_engine.run_ray(settings, source, out, together=TOGETHER)
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text("utf-8"))
    assert stopped and progress.done == BEFORE and signal.getsignal(number) == before
    assert manifest["status"] == "stopped" and manifest["rows"] == BEFORE == len(timeless(out / "predictions.jsonl"))
    progress, stopped = ray_engine.run_ray(settings, source, out, together=TOGETHER)
    assert not stopped and (progress.done, progress.resumed) == (POSTS, BEFORE)
    run_batch(Namepin(settings, batched_calls(settings)), source, tmp_path / "whole", together=TOGETHER)
    assert timeless(out / "predictions.jsonl") == timeless(tmp_path / "whole" / "predictions.jsonl")


def test_ray_that_does_not_start_in_time_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    begun = list[int]()

    def init(**_: object) -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    ray_engine._init({}, tries=3)
    assert begun == [0, 1, 2]
    begun.clear()
    with pytest.raises(Exception, match="timed out"):
        ray_engine._init({}, tries=2)
