"""The benches compare equal work; only the benches themselves measure speed."""

import json
from pathlib import Path

import pytest

from namepin.agent.bench.batch import write_posts
from namepin.agent.bench.graph import bench as graph_bench
from namepin.agent.bench.registry import BENCHES, Bench
from namepin.evals.bench.scoring import as_lines, bench, made_dataset, nested_loops
from namepin.evals.scoring.evaluate import count_posts, total
from namepin.evals.scoring.predictions import check


def test_nested_loops_count_equals_riveg_protocol_count() -> None:
    dataset, rows = made_dataset(200)
    predictions = check(rows, dataset)
    gold, predicted = as_lines(dataset, predictions)
    count = total(count_posts(dataset, predictions, "gmner", "riveg"))
    assert nested_loops(predicted, gold) == count.correct and 0.5 < count.correct / count.gold < 0.9
    assert nested_loops(predicted[::-1], gold) == count.correct


def test_scoring_bench_speedup_equals_ratio_of_times() -> None:
    figures = bench(100)
    assert figures["speedup"] == pytest.approx(figures["nested_loops_s"] / figures["ours_s"])


def test_graph_bench_overhead_equals_difference_of_times() -> None:
    figures = graph_bench(posts=16, rounds=1)
    assert figures["overhead_ms"] == pytest.approx(figures["graph_ms"] - figures["plain_ms"])
    assert 0 < figures["plain_ms"] < figures["graph_ms"]


@pytest.mark.parametrize("name", BENCHES)
def test_bench_goal_with_worst_figure_is_missed(name: str) -> None:
    for goal in BENCHES[name].goals:
        assert not goal.met({goal.figure: float("inf") if goal.relation == "<=" else 0.0})


def test_bench_page_marks_missed_goals_and_keeps_notes() -> None:
    from namepin.agent.bench.page import page

    goals = [{"goal": "a >= 2", "met": True}, {"goal": "b <= 1", "met": False}]
    bench = {"about": "x", "measured": "2026-11-30", "machine": {"cores": 2}, "figures": {"a": 3.0, "b": 1.5}}
    text = page({"benches": {"x": {**bench, "goals": goals}}}, {"x": Bench("m", "x", (), note="A note.")})
    assert "a >= 2 (met); b <= 1 (MISSED)" in text and "| b | 1.5 |" in text and "A note." in text
    assert "Measured on 2026-11-30: cores 2." in text


def test_write_posts_makes_distinct_texts_and_pictures(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in write_posts(tmp_path, 30, pictures=True).read_text().splitlines()]
    assert len({row["text"] for row in rows}) == 30
    assert len({(tmp_path / row["image"]).read_bytes() for row in rows}) == 30
