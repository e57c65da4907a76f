"""A short run of tests/load/load.py: the server enforces bounds, finishes requests, resumes jobs and starves nobody."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from load import load

pytestmark = pytest.mark.slow
WAITING = 6


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with load.slow_llm(0) as llm:
        yield load.asking_profile(tmp_path_factory.mktemp("load"), llm)


def serve(profile: Path, folder: Path) -> load.Serve:
    # Without the page, which takes longer to load than these tests to run.
    return load.Serve(folder, "--no-page", "--set", f"serve.waiting={WAITING}", *load.offering(profile))


@pytest.fixture(scope="module")
def server(profile: Path) -> Iterator[load.Serve]:
    with serve(profile, profile.parent) as server:
        yield server


def test_slow_llm_delays_only_posts_that_ask_it(server: load.Serve, profile: Path) -> None:
    got = load.part_slow(server, profile, delay_s=6, seconds=0.7, clients=2, slow_clients=6)
    for posts in ("same_profile_beside", "starter_beside"):
        assert not got[posts]["connection_errors"] and set(got[posts]["answers"]) == {200}
        assert got[posts]["p95_s"] < 5
    assert got["asked_of_the_llm"] >= 6 and set(got["that_ask"]["answers"]) == {200}
    assert got["that_ask"]["p50_s"] > 6


def test_server_beyond_capacity_answers_200_or_429(server: load.Serve) -> None:
    got = load.part_crowd(server, clients=24, seconds=2)
    assert not got["connection_errors"] and set(got["answers"]) == {200, 429} and got["answers"][200] > 3
    assert got["most_running"] <= 4 and got["most_waiting"] <= WAITING
    assert got["over_time"] and got["rss_mb_peak"] > 100


def test_server_on_sigterm_finishes_requests_and_resumes_jobs(profile: Path, tmp_path: Path) -> None:
    with serve(profile, tmp_path) as server:  # its own, since the part stops it
        got = load.part_farewell(server, posts=16, under_way=3)
    assert got["answers_to_requests_under_way"] == {"200": 3}
    assert got["job_state_after_restart"] == "done" and got["job_complete_and_in_order"]
    assert got["job_posts_done_at_the_stop"] < 16
    assert got["exit_code"] == 0 and got["stop_s"] < 45
