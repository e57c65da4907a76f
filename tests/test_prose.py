"""`.ci/prose.py`: spelling and unwanted words of the documentation."""

import subprocess
import sys
from pathlib import Path

import pytest

PROSE = Path(__file__).parents[1] / ".ci" / "prose.py"
pytest.importorskip("codespell_lib", reason="no codespell: pip install '.[dev]'")


def run(*files: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, PROSE, *files], capture_output=True, text=True)
    assert not done.stderr
    return done.returncode, done.stdout


def test_prose_of_documentation_is_clean() -> None:
    code, told = run()
    assert (code, "nothing found" in told) == (0, True), told


def test_prose_reports_words_and_spelling_with_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("We recieve it.\n\nMend it, in order to go on.\n")
    code, told = run(page)
    assert code == 1
    assert f"{page}:3: Mend: fix" in told and f"{page}:3: in order to: to" in told and f"{page}:1: recieve" in told


def test_prose_leaves_code_and_addresses_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("The key `mend` of [it](https://example.com/mend).\n\n```\nmend\n```\n")
    assert run(page)[0] == 0
