"""What lies in the folder of `namepin extract --out`: nothing outside it is written, and nothing in it blocks."""

import os
from pathlib import Path

import pytest

from namepin.agent.render.files import PAGE, PREDICTIONS, Results
from namepin.agent.render.html import About
from support.agent_samples import full

NAMES = (PREDICTIONS, PAGE, "a.png")


def write(folder: Path) -> None:
    given = full()
    results = Results(folder, About("starter"))
    results.add(given.extraction.model_copy(update={"id": "a"}), given.picture)
    results.finish()


@pytest.mark.parametrize("name", NAMES)
def test_link_in_the_results_folder_is_replaced_and_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    write(tmp_path / "out")
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "out" / name).is_symlink() and (tmp_path / "out" / name).stat().st_size > 100


@pytest.mark.parametrize("name", NAMES)
def test_pipe_in_the_results_folder_holds_nothing_up(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / name)
    write(tmp_path / "out")
    assert (tmp_path / "out" / name).is_file()
