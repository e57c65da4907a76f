"""Fixtures shared by all tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support.browser import open_browser
from support.paths import ROOT

# Before any package computes: threads of several tests that run at once would only wait for each other.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# Before any test runs: tests marked `langsmith` go out to LangSmith only where somebody asks for that.
os.environ.setdefault("LANGSMITH_TEST_TRACKING", "false")

# The same examples in every run, however busy the machine; `--hypothesis-profile=explore` draws new ones.
settings.register_profile("same", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("explore", settings.get_profile("same"), derandomize=False, max_examples=1000)
settings.load_profile("same")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: tests with servers wait for much of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The research data beside the checkout; the test is skipped where it is absent."""
    root = Path(os.environ.get("NAMEPIN_DATA", ROOT.parent / "shared" / "data"))
    if not (root / "gmner" / "txt").is_dir():
        pytest.skip(
            f"no research data at {root}: set NAMEPIN_DATA to the folder of gmner/, fmnerg/ and fmnerg-test300/"
        )
    return root


@pytest.fixture(autouse=True)
def _no_memory_of_servers() -> Iterator[None]:
    """A port that one test's dead server had may be the next test's living one's."""
    if known := sys.modules.get("namepin.tools.llm.servers"):
        known.servers_of.cache_clear()
    yield


@pytest.fixture(autouse=True)
def _threads_as_they_were() -> Iterator[None]:
    """A recipe sets PyTorch's threads, and with another number of them the last digits are others."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    yield
    if torch and torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of one file."""
    with open_browser() as browser:
        yield browser
