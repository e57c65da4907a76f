"""Repeated posts are processed once if the result does not change."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.batch.deduplicate import Deduplicator, PostKey, ResultCache
from namepin.agent.batch.local_engine import run_batch
from namepin.agent.batch.source import Source
from namepin.agent.batch.writing import Progress
from namepin.agent.config.settings import load_settings
from namepin.agent.posts import Ready
from namepin.tools.types import Extraction, Post
from support.batch_samples import timeless

TEXT_ONLY = ("matcher.backend=off", "tracer.backend=off", "segmenter.backend=off")


def ready(name: str, text: str) -> Ready:
    return Ready(Post(id=name, text=text, extra={"of": name}), None)


class Work:
    """Counts its requests; posts named `down` are degraded, posts named `bad` fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, prepared: Ready) -> Extraction:
        post = prepared.post
        self.asked.append(post.id)
        await asyncio.sleep(0.01)
        if post.id == "bad":
            raise ValueError("bad")
        status: Any = "degraded" if post.id == "down" else "ok"
        return Extraction(
            id=post.id, text=post.text, tokens=(post.text,), fingerprint="f", status=status, extra=dict(post.extra)
        )


def run_posts(*posts: Ready) -> tuple[list[str], list[Any], Deduplicator]:
    work, known = Work(), Deduplicator()

    async def main() -> list[Any]:
        claims = [known.claim(post, row) for row, post in enumerate(posts, 1)]
        found = (known.extraction(claim, post, work) for claim, post in zip(claims, posts, strict=True))
        return await asyncio.gather(*found, return_exceptions=True)

    return work.asked, asyncio.run(main()), known


def test_deduplicator_computes_equal_posts_once_and_keeps_their_ids() -> None:
    names, found, known = run_posts(ready("a", "same"), ready("b", "same"), ready("c", "other"), ready("d", "same"))
    assert names == ["a", "c"] and known.saved == 2
    assert [(one.id, one.text, one.extra) for one in found] == [
        ("a", "same", {"of": "a"}), ("b", "same", {"of": "b"}), ("c", "other", {"of": "c"}), ("d", "same", {"of": "d"}),
    ]  # fmt: skip


@pytest.mark.parametrize("first", ["down", "bad"])
def test_deduplicator_never_reuses_failed_or_degraded_results(first: str) -> None:
    names, found, known = run_posts(ready(first, "same"), ready("b", "same"), ready("c", "same"))
    assert names == [first, "b", "c"] and known.saved == 0 and [one.status for one in found[1:]] == ["ok", "ok"]


def test_deduplicator_forgets_posts_beyond_reach_since_their_last_repost() -> None:
    async def main() -> list[str]:
        work, known = Work(), Deduplicator(2)
        for row, (name, text) in enumerate((("a", "1"), ("b", "2"), ("c", "1"), ("d", "3"), ("e", "1"), ("f", "2")), 1):
            post = ready(name, text)
            await known.extraction(known.claim(post, row), post, work)
        return work.asked

    assert asyncio.run(main()) == ["a", "b", "d", "f"], "row 6 is 4 rows after the other post of its text"


def test_deduplicator_with_finished_rows_claims_as_undisturbed_run() -> None:
    """Rows 1 and 2 are of an earlier run: the first is reused, the second, which was degraded, is not."""

    async def main() -> tuple[list[str], list[Extraction]]:
        work, known = Work(), Deduplicator()
        line = (await work(ready("a", "1"))).to_json().encode()
        known.seed(ready("a", "1"), 1, None, line)
        known.seed(ready("b", "2"), 2, None, None)
        posts = [ready("c", "1"), ready("d", "2")]
        claims = [known.claim(post, row) for row, post in enumerate(posts, 3)]
        found = [await known.extraction(c, post, work) for c, post in zip(claims, posts, strict=True)]
        return work.asked, found

    names, found = asyncio.run(main())
    assert names == ["a", "d"] and [one.id for one in found] == ["c", "d"] and found[0].extra == {"of": "c"}


def test_batch_with_reposts_equals_run_without_deduplication(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": str(n), "text": ("Bob Dylan in Oslo", "NASA and Apple")[n % 2], "n": n} for n in range(8)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pin = Namepin(load_settings("starter", assignments=TEXT_ONLY, environment={}))
    real, worked, said = pin.aextract, list[str](), list[Progress]()

    async def counted(prepared: Any) -> Extraction:
        worked.append(prepared.post.id)
        return await real(prepared)

    monkeypatch.setattr(pin, "aextract", counted)
    run_batch(pin, Source(str(tmp_path / "posts.jsonl")), tmp_path / "out", on_progress=said.append)
    assert worked == ["0", "1"] and said[-1].total == 8 and said[-1].left_s == 0
    for row, given in zip(timeless(tmp_path / "out" / "predictions.jsonl"), rows, strict=True):
        alone = json.loads(asyncio.run(real(pin.ready({"id": given["id"], "text": given["text"]}))).to_json())
        alone["extra"] = {"n": given["n"]}
        assert row == {key: value for key, value in alone.items() if key != "timings_ms"}


class Counted:
    """A profile that counts its work; by default its results are cached on disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> None:
        kept = ("batch.cache=true", f"batch.cache_dir={folder / 'kept'}")
        self.pin = Namepin(load_settings("starter", assignments=[*TEXT_ONLY, *kept, *more], environment={}))
        self.worked, self.folder, real = list[str](), folder, self.pin.aextract

        async def counted(prepared: Any) -> Extraction:
            self.worked.append(prepared.post.id)
            return await real(prepared)

        monkeypatch.setattr(self.pin, "aextract", counted)

    def rows(self, posts: Path, out: str) -> list[dict[str, Any]]:
        run_batch(self.pin, Source(str(posts)), self.folder / out)
        return timeless(self.folder / out / "predictions.jsonl")


def written(folder: Path, name: str, texts: tuple[str, ...], **more: Any) -> Path:
    rows = [{"id": f"{name}{n}", "text": text, **more} for n, text in enumerate(texts)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / f"{name}.jsonl"


def test_result_cache_reuses_results_of_earlier_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (32, 24), "red").save(tmp_path / "a.png")
    yesterday = written(
        tmp_path, "y", ("Bob Dylan in Oslo", "NASA and Apple", "\u00e9\ud83d\ude00 Paris"), image="a.png"
    )
    today = written(tmp_path, "t", ("new in Rome", "NASA and Apple", "\u00e9\ud83d\ude00 Paris"), image="a.png", of="t")
    first = Counted(monkeypatch, tmp_path)
    first.rows(yesterday, "yesterday")
    assert sorted(first.worked) == ["y0", "y1", "y2"]
    second = Counted(monkeypatch, tmp_path)
    found = second.rows(today, "today")
    assert second.worked == ["t0"]
    without = Counted(monkeypatch, tmp_path, "batch.cache=false")
    assert without.rows(today, "without") == found and len(without.worked) == 3
    assert found[1]["extra"] == {"of": "t"} and found[1]["entities"] and found[1]["image"]
    # Everything that determines a result is in the key: a threshold, the picture's bytes under the same name.
    other = Counted(monkeypatch, tmp_path, "gate.gamma=0.9")
    other.rows(today, "other")
    assert sorted(other.worked) == ["t0", "t1", "t2"]
    Image.new("RGB", (32, 24), "blue").save(tmp_path / "a.png")
    repainted = Counted(monkeypatch, tmp_path)
    repainted.rows(today, "repainted")
    assert sorted(repainted.worked) == ["t0", "t1", "t2"]


def test_result_cache_stores_nothing_when_off_or_degraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = written(tmp_path, "p", ("Bob Dylan",), image="gone.png")
    Counted(monkeypatch, tmp_path, "batch.cache=false").rows(posts, "a")
    assert not (tmp_path / "kept").exists()
    for out in ("b", "c"):
        run = Counted(monkeypatch, tmp_path)
        assert run.rows(posts, out)[0]["status"] == "degraded" and run.worked == ["p0"]


def test_result_cache_with_unreadable_entry_recomputes_post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts, run = written(tmp_path, "p", ("Bob Dylan",)), Counted(monkeypatch, tmp_path)
    expected = run.rows(posts, "a")
    kept = ResultCache.of(run.pin)
    assert kept is not None
    kept._cache.put(kept._setup, PostKey.of(run.pin.ready({"id": "x", "text": "Bob Dylan"})), '{"id": 1}')
    kept.close()
    assert run.rows(posts, "b") == expected and run.worked == ["p0", "p0"]
