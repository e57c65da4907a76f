"""`make audit` against a vulnerability service on loopback: findings fail, a missing service does not."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.loopback import JsonHandler, serving

AUDIT = Path(__file__).parents[1] / ".ci" / "audit.py"
pytest.importorskip("pip_audit", reason="no pip-audit: pip install '.[dev]'")


@contextmanager
def service(vulns: list[dict[str, Any]]) -> Iterator[str]:
    """An OSV service that says the same of every package."""

    class Handler(JsonHandler):
        def do_POST(self) -> None:
            self.body()
            self.answer({"vulns": vulns} if vulns else {})

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"


def audit(tmp_path: Path, url: str) -> subprocess.CompletedProcess[str]:
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("attrs==23.1.0\n")
    flags = ["-r", str(wanted), "--no-deps", "--disable-pip", "-s", "osv", "--osv-url", url, "--timeout", "5"]
    cache = ["--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, str(AUDIT), *flags, *cache]
    return subprocess.run(command, capture_output=True, text=True)


FOUND = {
    "id": "PYSEC-2099-1",
    "summary": "a hole",
    "details": "a hole",
    "aliases": [],
    "modified": "2099-01-01T00:00:00Z",
    "published": "2099-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "attrs", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "24.1.0"}]}],
            "versions": ["23.1.0"],
        }
    ],
}


def test_audit_with_finding_exits_1(tmp_path: Path) -> None:
    with service([FOUND]) as url:
        ran = audit(tmp_path, url)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "attrs 23.1.0: PYSEC-2099-1 (fixed in 24.1.0)" in ran.stdout


def test_audit_without_finding_exits_0(tmp_path: Path) -> None:
    with service([]) as url:
        ran = audit(tmp_path, url)
    assert ran.returncode == 0 and "1 packages audited" in ran.stdout and "0 vulnerable" in ran.stdout


def test_audit_without_service_prints_not_audited_and_exits_0(tmp_path: Path) -> None:
    ran = audit(tmp_path, "http://127.0.0.1:9/v1/query")
    assert ran.returncode == 0 and "NOT AUDITED" in ran.stdout, ran.stdout + ran.stderr


def test_audit_of_missing_requirements_exits_1(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(AUDIT), "-r", str(tmp_path / "nowhere.txt")], capture_output=True, text=True
    )
    assert ran.returncode == 1 and "the audit itself failed" in ran.stdout
