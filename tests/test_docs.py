"""The guides' code runs, and the site's map names every page."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.paths import ROOT

DOCS = ROOT / "docs"


def code_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.S)


def test_extending_guide_code_makes_a_matcher_that_the_graph_calls() -> None:
    (code,) = code_blocks("extending.md")
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(code, "extending.md", "exec"), names)
    result = names["pin"].extract("Manchester's Red Devils beat Chelsea Blue", Image.new("RGB", (8, 8), "red"))
    by_name = {entity.text: entity for entity in result.entities}
    red = next(entity for text, entity in by_name.items() if "Red" in text)
    assert red.groundable and red.match_score == 1.0 and red.evidence == "100% of the picture has the name's colour"


def test_site_navigation_names_every_page() -> None:
    named = set(re.findall(r"\b([\w-]+\.md)\b", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert named == {page.name for page in DOCS.glob("*.md")}


def test_quickstart_notebook_cells_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for picture in ("astronaut.jpg", "flyer.png"):
        shutil.copy(ROOT / "examples" / picture, tmp_path)
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text("utf-8"))
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["result"]._repr_html_().startswith("<iframe")
    assert [found.status for found in names["results"]] == ["ok", "ok", "failed"]
    assert (tmp_path / "astronaut.html").is_file()


def test_tables_of_pages_keep_their_rows_on_lines_of_their_own() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    merged = [page.name for page in pages if re.search(r"\|[^|\n]+\| +\| *-{3}", page.read_text("utf-8"))]
    assert len(pages) > 20 and merged == []
