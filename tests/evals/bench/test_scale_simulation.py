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


def test_one_stage_takes_its_work_over_its_workers() -> None:
    run = Simulation(ONE).run()
    assert run.hours == pytest.approx(100 / 4 * 0.1) and run.busy["only"] == pytest.approx(1.0)
    assert (run.deaths, run.lost["only"], run.finished["only"]) == (0, 0.0, 100)


def test_the_slowest_stage_decides_and_holds_the_others_back() -> None:
    run = Simulation(TWO).run()
    slow = 100 * 100.0 / 2
    assert run.hours * HOUR == pytest.approx(10 + slow + 2)  # one fast shard before, and after it two last ones in turn
    assert run.longest["slow"] == 3  # the buffer, never more: the fast stage stood still
    assert run.busy["slow"] == pytest.approx(slow / (slow + 12)) and run.busy["fast"] < 0.06


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dark", [None, 0.5])
def test_every_shard_goes_through_every_stage_once_whoever_dies(seed: int, dark: float | None) -> None:
    plan = replace(TWO, lifetime_h=0.2, back_s=60.0, outage_at_h=dark, outage_h=0.3, seed=seed, spread=0.5)
    run = Simulation(plan).run()
    assert set(run.finished.values()) == {100} and run.deaths > 5
    assert 0 < run.lost["slow"] < 0.5 and run.hours > Simulation(TWO).run().hours
    assert all(0 <= share <= 1 for share in run.busy.values())
    assert run == Simulation(plan).run()


def test_smaller_shards_lose_less() -> None:
    lost = [
        Simulation(replace(ONE, shard=shard, lifetime_h=2.0, back_s=0.0)).run().lost["only"] for shard in (2, 20, 100)
    ]
    assert lost[0] < lost[1] < lost[2]


def test_an_outage_costs_its_zone_and_no_more() -> None:
    plan = replace(ONE, stages=(Stage("only", 6, 36.0),), outage_at_h=0.55, outage_h=0.5)
    third = Simulation(plan).run()
    whole = Simulation(replace(plan, zones=1)).run()
    assert (third.deaths, whole.deaths) == (2, 6)
    assert whole.hours == pytest.approx(100 // 6 * 0.1 + 0.1 + 0.05 + 0.5)
    assert third.hours < whole.hours
    assert third.lost["only"] == pytest.approx(2 * 0.05 / 10.1)


def test_repeats_are_known_only_when_the_first_one_is_through() -> None:
    plan = replace(ONE, stages=(Stage("asked", 1, 36.0, cached=True),), repeats=0.2)
    assert 0.18 < Simulation(plan).run().hits < 0.2
    at_once = replace(plan, stages=(Stage("asked", 100, 36.0, cached=True),))
    assert Simulation(at_once).run().hits == 0
    assert Simulation(replace(plan, repeats=0.0)).run().hits == 0


def test_operations_by_hand_and_what_follows_from_them() -> None:
    assert operations(2, 3, 5) == 3 * (24 * 5 * 4 + 4 * 5 * 5 * 2)
    assert operations(2, 3, 5, across=7) == 3 * (24 * 5 * 4 + 4 * 5 * 7 * 2)
    given = Assumptions()
    twice = seconds_a_post(replace(given, share=2 * given.share))
    for stage, seconds in seconds_a_post(given).items():
        assert twice[stage] == pytest.approx(seconds if stage in ("prepare", "write") else seconds / 2)
    assert seconds_a_post(replace(given, gated=0.0))["rerank"] == 0


def test_the_plan_gives_each_stage_what_it_needs() -> None:
    plan = plan_workers(Assumptions(), posts=10**7, shard=1000)
    run = Simulation(plan).run()
    gpus = [stage for stage in plan.stages if stage.name not in ("prepare", "write")]
    assert 512 <= sum(stage.workers for stage in gpus) <= 512 + len(gpus)
    assert all(run.busy[stage.name] > 0.9 for stage in gpus if stage.workers > 50)


def test_the_document_quotes_what_the_simulation_prints() -> None:
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    assert [line for line in tables().splitlines() if line not in page] == []
