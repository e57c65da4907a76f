"""The page of a real `namepin serve`, and a fresh browser at it. A module with another server has its own `address`."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.pages import visit
from support.processes import environment, free_port, running_namepin


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("serve")
    env = environment(NAMEPIN_DATA_DIR=str(folder / "data"))
    with running_namepin("serve", port=free_port(), env=env, cwd=folder) as url:
        yield url


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:
    yield from visit(browser, address)
