"""A job's results as HTML: one page, or a ZIP of pages."""

import io
import re
import zipfile
from pathlib import Path

import pytest

from namepin.agent.render.html import About
from namepin.agent.server.jobs import POSTS, RESULTS
from namepin.agent.web import job_results
from namepin.agent.web.job_results import html_page, html_zip
from namepin.tools.images.load import load_image
from namepin.tools.jsonl import dump_line
from namepin.tools.types import Extraction
from support.paths import ROOT

ABOUT = About("starter")
PICTURE = (ROOT / "examples" / "astronaut.jpg").read_bytes()


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Five posts; the third one has a picture."""
    picture = load_image(PICTURE).ref
    (tmp_path / picture.sha256).write_bytes(PICTURE)
    for number in range(1, 6):
        post = {"id": f"p{number}", "text": f"Post <{number}>"}
        image = picture if number == 3 else None
        result = Extraction(**post, tokens=("Post", str(number)), image=image, status="ok", fingerprint="x")
        with (tmp_path / POSTS).open("ab") as posts, (tmp_path / RESULTS).open("a") as results:
            posts.write(dump_line(post | ({"image": picture.sha256} if image else {})))
            results.write(result.to_json() + "\n")
    return tmp_path


def test_html_zip_holds_all_posts_on_linked_pages(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_results, "PER_PAGE", 2)
    pieces = list(html_zip(job, 5, ABOUT, 10**8))
    assert len(pieces) == 4 and all(pieces), "a piece per page, and the directory"
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        pages = {name: archive.read(name).decode() for name in archive.namelist()}
    assert list(pages) == ["index.html", "page-2.html", "page-3.html"]
    assert [text.count("<article") for text in pages.values()] == [2, 2, 1]
    for name, text in pages.items():
        linked = set(re.findall(r'<a href="([^"#]+)"', text))
        assert linked == set(pages), "each page links them all"
        assert f'href="{name}" aria-current="page"' in text
    assert "Posts 3 to 4 of 5" in pages["page-2.html"] and "data:image/jpeg" in pages["page-2.html"]
    assert "Post 5 of 5" in pages["page-3.html"] and "Post &lt;5&gt;" in pages["page-3.html"]


def test_html_page_of_few_posts_has_no_page_links(job: Path) -> None:
    text = html_page(job, ABOUT, 10**8).decode()
    assert text.count("<article") == 5 and "aria-current=" not in text and "<title>Namepin: 5 posts</title>" in text


def test_html_zip_ends_at_the_posts_that_were_done(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_results, "PER_PAGE", 2)
    with zipfile.ZipFile(io.BytesIO(b"".join(html_zip(job, 3, ABOUT, 10**8)))) as archive:
        assert archive.namelist() == ["index.html", "page-2.html"]
        assert archive.read("page-2.html").count(b"<article") == 1
