"""A short run of tests/load/load.py: its parts find a server that bounds, finishes, hands back and does not starve."""

from pathlib import Path

import load
import pytest

pytestmark = pytest.mark.slow


def test_a_crowd_gets_answers_or_429(tmp_path: Path) -> None:
    got = load.part_crowd(tmp_path, clients=48, seconds=3)
    assert not got["connection_errors"] and set(got["answers"]) <= {200, 429} and got["answers"][200] > 3
    assert got["most_running"] <= 4 and got["most_waiting"] <= 32


def test_sigterm_finishes_what_was_begun_and_hands_jobs_back(tmp_path: Path) -> None:
    got = load.part_farewell(tmp_path, posts=24, under_way=3)
    assert got["answers_to_requests_under_way"] == {"200": 3}
    assert got["job_state_after_restart"] == "done" and got["job_complete_and_in_order"]
    assert got["exit_code"] == 0 and got["stop_s"] < 45


def test_a_slow_model_holds_up_those_who_ask_it_only(tmp_path: Path) -> None:
    got = load.part_slow(tmp_path, delay_s=8, seconds=1.5, clients=2, slow_clients=6)
    for posts in ("same_profile_beside", "starter_beside"):
        assert not got[posts]["connection_errors"] and set(got[posts]["answers"]) == {200}
        assert got[posts]["p95_s"] < 4
    assert got["asked_of_the_llm"] >= 6
