"""The simulation of docs/scale.md: no post lost or repeated, and hours that agree with a calculation by hand."""

from dataclasses import replace

import pytest

from namepin.evals.bench.scale_simulation import (
    HOUR,
    Assumptions,
    Plan,
    Simulation,
    Stage,
    operations,
    plan_workers,
    seconds_a_post,
    tables,
)
from support.paths import ROOT

ONE = Plan(posts=1000, shard=10, stages=(Stage("only", 4, 36.0),), spread=0.0)
TWO = replace(ONE, stages=(Stage("fast", 4, 1.0), Stage("slow", 2, 10.0), Stage("last", 1, 0.1)), buffer=3)


def test_simulation_of_one_stage_takes_work_divided_by_workers() -> None:
    run = Simulation(ONE).run()
    assert run.hours == pytest.approx(100 / 4 * 0.1) and run.busy["only"] == pytest.approx(1.0)
    assert (run.deaths, run.lost["only"], run.finished["only"]) == (0, 0.0, 100)


def test_simulation_slowest_stage_determines_hours_and_queue() -> None:
    run = Simulation(TWO).run()
    slow = 100 * 100.0 / 2
    assert run.hours * HOUR == pytest.approx(10 + slow + 2)  # one fast shard before, and after it two last ones in turn
    assert run.longest["slow"] == 3  # the buffer, never more: the fast stage stood still
    assert run.busy["slow"] == pytest.approx(slow / (slow + 12)) and run.busy["fast"] < 0.06


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dark", [None, 0.5])
def test_simulation_with_failures_finishes_every_shard_in_every_stage(seed: int, dark: float | None) -> None:
    plan = replace(TWO, lifetime_h=0.2, back_s=60.0, outage_at_h=dark, outage_h=0.3, seed=seed, spread=0.5)
    run = Simulation(plan).run()
    assert set(run.finished.values()) == {100} and run.deaths > 5
    assert 0 < run.lost["slow"] < 0.5 and run.hours > Simulation(TWO).run().hours
    assert all(0 <= share <= 1 for share in run.busy.values())
    assert run == Simulation(plan).run()


def test_simulation_with_smaller_shards_loses_less_work() -> None:
    lost = [
        Simulation(replace(ONE, shard=shard, lifetime_h=2.0, back_s=0.0)).run().lost["only"] for shard in (2, 20, 100)
    ]
    assert lost[0] < lost[1] < lost[2]


def test_simulation_outage_stops_workers_of_one_zone() -> None:
    plan = replace(ONE, stages=(Stage("only", 6, 36.0),), outage_at_h=0.55, outage_h=0.5)
    third = Simulation(plan).run()
    whole = Simulation(replace(plan, zones=1)).run()
    assert (third.deaths, whole.deaths) == (2, 6)
    assert whole.hours == pytest.approx(100 // 6 * 0.1 + 0.1 + 0.05 + 0.5)
    assert third.hours < whole.hours
    assert third.lost["only"] == pytest.approx(2 * 0.05 / 10.1)


def test_simulation_cache_hits_require_finished_first_copy() -> None:
    plan = replace(ONE, stages=(Stage("asked", 1, 36.0, cached=True),), repeats=0.2)
    assert 0.18 < Simulation(plan).run().hits < 0.2
    at_once = replace(plan, stages=(Stage("asked", 100, 36.0, cached=True),))
    assert Simulation(at_once).run().hits == 0
    assert Simulation(replace(plan, repeats=0.0)).run().hits == 0


def test_operations_and_seconds_per_post_equal_hand_computed_values() -> None:
    assert operations(2, 3, 5) == 3 * (24 * 5 * 4 + 4 * 5 * 5 * 2)
    assert operations(2, 3, 5, across=7) == 3 * (24 * 5 * 4 + 4 * 5 * 7 * 2)
    given = Assumptions()
    twice = seconds_a_post(replace(given, share=2 * given.share))
    for stage, seconds in seconds_a_post(given).items():
        assert twice[stage] == pytest.approx(seconds if stage in ("prepare", "write") else seconds / 2)
    assert seconds_a_post(replace(given, gated=0.0))["rerank"] == 0


def test_plan_workers_balances_gpu_stages_above_90_percent_busy() -> None:
    plan = plan_workers(Assumptions(), posts=10**7, shard=1000)
    run = Simulation(plan).run()
    gpus = [stage for stage in plan.stages if stage.name not in ("prepare", "write")]
    assert 512 <= sum(stage.workers for stage in gpus) <= 512 + len(gpus)
    assert all(run.busy[stage.name] > 0.9 for stage in gpus if stage.workers > 50)


def test_scale_document_quotes_simulation_tables() -> None:
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    assert [line for line in tables().splitlines() if line not in page] == []
