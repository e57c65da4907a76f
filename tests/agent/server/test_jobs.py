"""Batch jobs over REST: stored first, resumed after a restart, owners in turn, odd files set aside."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from namepin.agent.server.access import TooMany
from namepin.agent.server.jobs import Job, JobPost, Jobs
from namepin.agent.stores.profile_pool import ProfilePool
from support.rest_client import ANN, BO, PICTURE, POST, TOKENS, make_client
from support.waiting import wait_until


def _finished(client: TestClient, job: str, headers: dict[str, str]) -> dict[str, Any]:
    def state() -> dict[str, Any]:
        return dict(client.get(f"/api/jobs/{job}", headers=headers).json())

    wait_until(lambda: state()["state"] in ("done", "failed"), "the job ends")
    return state()


def test_batch_jobs_finish_and_are_hidden_from_other_owner(tmp_path: Path) -> None:
    posts = [{"id": f"p{i}", "text": "Bob Dylan in Oslo"} for i in range(3)]
    posts[1]["image"] = base64.b64encode(PICTURE).decode()
    with make_client(tmp_path, TOKENS, max_jobs=2) as client:
        job = client.post("/api/batch", json={"posts": posts}, headers=ANN).json()
        assert _finished(client, job["id"], ANN) | {"state": "done"} == {**job, "done": 3, "state": "done"}
        lines = client.get(f"/api/jobs/{job['id']}/results", headers=ANN)
        assert [json.loads(line)["id"] for line in lines.text.splitlines()] == ["p0", "p1", "p2"]
        assert "attachment" in lines.headers["content-disposition"]
        for method, path in (("GET", ""), ("GET", "/results"), ("DELETE", "")):
            assert client.request(method, f"/api/jobs/{job['id']}{path}", headers=BO).status_code == 404
        assert client.get("/api/jobs", headers=BO).json() == []
        assert client.get("/api/jobs/..%2f..%2fx", headers=ANN).status_code in (404, 422)
        twice = client.post("/api/batch", json={"posts": [posts[0], posts[0]]}, headers=ANN)
        assert twice.json()["code"] == "E104"
        client.post("/api/batch", json={"posts": posts}, headers=ANN)
        assert client.post("/api/batch", json={"posts": posts}, headers=ANN).status_code == 429
        assert client.delete(f"/api/jobs/{job['id']}", headers=ANN).json() == {"deleted": job["id"]}
        assert client.get(f"/api/jobs/{job['id']}", headers=ANN).status_code == 404


def test_batch_job_resumes_after_server_restart(tmp_path: Path) -> None:
    posts = [{"id": f"p{i}", "text": "Bob Dylan in Oslo"} for i in range(4)]
    with make_client(tmp_path) as client:
        job = client.post("/api/batch", json={"posts": posts}).json()
        whole = _finished(client, job["id"], {}) and client.get(f"/api/jobs/{job['id']}/results").text
    folder = tmp_path / "jobs" / "local" / job["id"]
    # The files after a crash: two lines, the second one torn, and the old state.
    first, second, *_ = whole.splitlines(keepends=True)
    (folder / "predictions.jsonl").write_text(first + second[:20])
    (folder / "job.json").write_text(json.dumps(job | {"state": "running"}))
    with make_client(tmp_path) as client:
        assert _finished(client, job["id"], {})["done"] == 4
        again = client.get(f"/api/jobs/{job['id']}/results").text

    def timeless(text: str) -> list[dict[str, Any]]:
        return [{k: v for k, v in json.loads(line).items() if k != "timings_ms"} for line in text.splitlines()]

    assert timeless(again) == timeless(whole)
    # All lines, but not the state that says so.
    (folder / "job.json").write_text(json.dumps(job | {"state": "running", "done": 3}))
    with make_client(tmp_path) as client:
        assert _finished(client, job["id"], {})["done"] == 4
        assert client.get(f"/api/jobs/{job['id']}/results").text == again


def test_batch_job_on_full_disk_retries_until_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("namepin.agent.server.jobs._PATIENCE_S", 0.05)
    real, full = Jobs._write, [3]

    def write(folder: Path, job: Job) -> None:
        if job.state == "running" and full[0]:
            full[0] -= 1
            raise OSError(28, "No space left on device")
        real(folder, job)

    monkeypatch.setattr(Jobs, "_write", staticmethod(write))
    with make_client(tmp_path) as client:
        job = client.post("/api/batch", json={"posts": [POST]}).json()
        assert _finished(client, job["id"], {})["done"] == 1
    assert full == [0]


def test_jobs_folder_with_foreign_files_sets_them_aside(tmp_path: Path) -> None:
    folder, job = tmp_path / "jobs", "0" * 32
    for owner, name in (("local", "0" * 32), ("local", "1" * 32), ("local", "2" * 32)):
        (folder / owner / name).mkdir(parents=True)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "local" / ".DS_Store").write_bytes(b"\xff")
    (folder / "local" / job / "job.json").write_bytes(b'{"id": "\xff"}')
    told = Job(id="1" * 32, profile="starter", posts=1).model_dump_json()
    (folder / "local" / ("1" * 32) / "job.json").write_text(told)
    (folder / "local" / ("1" * 32) / "posts.jsonl").mkdir()
    (folder / "local" / ("2" * 32) / "job.json").write_text(told.replace("1" * 32, "2" * 32))
    (folder / "local" / ("2" * 32) / "posts.jsonl").write_bytes(b'{"id": "a", "text": "x"}\n')
    (folder / "local" / ("2" * 32) / "predictions.jsonl").mkdir()
    with make_client(tmp_path) as client:
        accepted = client.post("/api/batch", json={"posts": [POST]}).json()
        assert _finished(client, accepted["id"], {})["done"] == 1
        assert client.get("/api/health").json()["set_aside"] == 4
        assert client.get(f"/api/jobs/{'1' * 32}").json()["state"] == "failed"


def test_batch_job_with_damaged_results_recomputes_missing_posts(tmp_path: Path) -> None:
    """Lines end at LF: U+2028 and similar characters are text. A wrong result is computed again."""
    posts = [{"id": f"p{i}", "text": f"Bob Dylan\u2028in\x85Oslo {i}"} for i in range(6)]
    with make_client(tmp_path) as client:
        job = client.post("/api/batch", json={"posts": posts}).json()
        assert _finished(client, job["id"], {})["done"] == 6
        whole = client.get(f"/api/jobs/{job['id']}/results").content
    lines = whole.split(b"\n")
    folder = tmp_path / "jobs" / "local" / job["id"]
    for kept in (lines[:3], [lines[0], lines[2]], [lines[0], b"\xff", *lines[2:]], [lines[0], b"{}", lines[1], b""]):
        (folder / "predictions.jsonl").write_bytes(b"\n".join(kept))
        (folder / "job.json").write_text(json.dumps(job | {"state": "running"}))
        with make_client(tmp_path) as client:
            assert _finished(client, job["id"], {})["done"] == 6
            again = client.get(f"/api/jobs/{job['id']}/results").content
            assert [json.loads(line)["id"] for line in again.split(b"\n")[:-1]] == [post["id"] for post in posts]
    (folder / "posts.jsonl").write_bytes((folder / "posts.jsonl").read_bytes().partition(b"\n")[0])
    (folder / "job.json").write_text(json.dumps(job | {"state": "running"}))
    with make_client(tmp_path) as client:
        found = _finished(client, job["id"], {})
        assert found["state"] == "failed" and "E104" in found["error"]


def test_jobs_accept_of_concurrent_requests_respects_bound(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, ProfilePool(["starter"]), 5)

    def accept(_: int) -> bool:
        try:
            return bool(jobs.accept("ann", "starter", [JobPost(row=POST)]))
        except TooMany:
            return False

    with ThreadPoolExecutor(20) as crowd:
        assert sum(crowd.map(accept, range(20))) == 5
    assert len(jobs.list("ann")) == 5


def test_jobs_of_two_owners_alternate_by_post(tmp_path: Path) -> None:
    posts = [{"id": f"p{i}", "text": "Bob Dylan in Oslo"} for i in range(200)]
    with make_client(tmp_path, TOKENS) as client:
        long = client.post("/api/batch", json={"posts": posts}, headers=ANN).json()
        short = client.post("/api/batch", json={"posts": posts[:2]}, headers=BO).json()
        assert _finished(client, short["id"], BO)["done"] == 2
        assert client.get(f"/api/jobs/{long['id']}", headers=ANN).json()["state"] in ("waiting", "running")
