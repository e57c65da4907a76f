"""Tools give several posts at once the same answers as single posts, and encode a picture once per post."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from namepin.agent.api import Namepin
from namepin.agent.config.settings import Settings, load_settings
from namepin.graphs.batched_calls import BatchedCalls
from namepin.tools.models.blip import Blip
from namepin.tools.models.sam import Sam
from namepin.tools.nets.ofa.model import Ofa
from namepin.tools.nets.seem import Seem
from namepin.tools.types import Extraction
from support import tiny_gem, tiny_modern, tiny_riveg
from support.paths import ROOT
from support.scripted_chat import serve

THREADS, TIMES = 4, 2


@contextmanager
def tiny(profile: str, folder: Path, cached: int = 1) -> Iterator[Settings]:
    """A profile of tiny nets, whose language models are there meanwhile; every mention goes through all of it.

    With one picture `cached` a net, posts push each other's out, and encoders run side by side, too.
    """
    kept = {"cached_pictures": cached}
    with (
        serve("", kind=tiny_modern.Guided) as server,
        serve(tiny_riveg.ANNOTATION) as knowledge,
        serve(tiny_riveg.EXPANSION) as other,
    ):
        if profile == "gem":
            overrides = tiny_gem.build(folder)
            for role in ("matcher", "tracer"):
                overrides[role]["blip"] |= kept
            overrides["segmenter"]["sam"] |= kept
            overrides["segmenter"]["seem"] |= kept
        elif profile == "riveg":
            overrides = tiny_riveg.build(folder, knowledge.url, other.url)
            overrides["segmenter"]["sam"] |= kept
            for role in ("entailment", "grounder"):
                overrides[role]["ofa"] |= kept
        else:
            overrides = tiny_modern.build(folder, server.url)
            overrides["segmenter"]["sam"] |= kept
        yield load_settings(profile, overrides=overrides | {"match": {"threshold": 0.0}}, environment={})


def posts_of(folder: Path) -> list[dict[str, Any]]:
    shown = tiny_gem.pictures(folder)
    return [{"id": n, "text": t, "image": str(shown[n]) if n in shown else None} for n, t in tiny_gem.TEXTS.items()]


def timeless(found: Extraction) -> Mapping[str, Any]:
    return {key: value for key, value in json.loads(found.to_json()).items() if key != "timings_ms"}


def side_by_side(
    settings: Settings, tools: Mapping[str, Any], posts: list[dict[str, Any]], times: int
) -> list[Extraction]:
    """All posts at once, each several times, with every tool in several threads."""
    calls = BatchedCalls(tools, threads=dict.fromkeys(tools, THREADS))
    pin = Namepin(settings, calls)

    async def all_of_them() -> list[Extraction]:
        return await asyncio.gather(*(pin.aextract(post) for _ in range(times) for post in posts))

    try:
        return asyncio.run(all_of_them())
    finally:
        calls.close()


@pytest.mark.parametrize("profile", ["gem", "riveg", "modern"])
def test_profile_tools_in_several_threads_equal_single_thread(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    posts = posts_of(tmp_path)
    with tiny(profile, tmp_path) as settings:
        alone = Namepin(settings)
        expected = [timeless(alone.extract(post)) for post in posts]
        found = side_by_side(settings, alone.calls.tools, posts, TIMES)  # type: ignore[attr-defined]  # live calls
    assert [timeless(one) for one in found] == expected * TIMES
    assert all(row["status"] == "ok" for row in expected), [row["warnings"] for row in expected]
    assert any(entity["mask"] for row in expected for entity in row["entities"])


def test_starter_tools_in_several_threads_equal_single_thread() -> None:
    """A post meets itself in what reads its picture, which has not seen it yet."""
    posts = [{"id": "1", "text": "Eileen Collins of NASA", "image": str(ROOT / "examples" / "astronaut.jpg")}]

    def built(keep: int) -> tuple[Settings, Namepin]:
        scene = {"scene": {"keep": keep}}  # another reader for each number
        roles = dict.fromkeys(("matcher", "tracer", "segmenter"), scene)
        settings = load_settings("starter", overrides=roles, environment={})
        return settings, Namepin(settings)

    _, alone = built(7)
    settings, other = built(8)
    expected = [timeless(alone.extract(post)) for post in posts]
    found = [timeless(one) for one in side_by_side(settings, other.calls.tools, posts, TIMES)]  # type: ignore[attr-defined]  # live calls
    assert [{**one, "fingerprint": ""} for one in found] == [{**one, "fingerprint": ""} for one in expected] * TIMES
    assert all(any(entity["mask"] for entity in row["entities"]) for row in expected)


@pytest.mark.parametrize(
    ("profile", "post", "cached", "encoders"),
    [
        ("gem", 1, 2, ((Blip, "_encode"), (Sam, "_fit"), (Seem, "encode"))),
        ("riveg", 0, 3, ((Ofa, "look"), (Sam, "_fit"))),
    ],
)
def test_encoders_with_several_mentions_encode_picture_once_per_post(
    profile: str,
    post: int,
    cached: int,
    encoders: tuple[tuple[type, str], ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Matcher and tracer share one embedding, and entailment and grounding at one size; a segmenter has its own."""
    monkeypatch.chdir(tmp_path)
    seen = list[str]()

    def count(owner: type, method: str) -> None:
        real = getattr(owner, method)

        def counted(self: Any, *given: Any) -> Any:
            seen.append(owner.__name__)
            return real(self, *given)

        monkeypatch.setattr(owner, method, counted)

    for owner, method in encoders:
        count(owner, method)
    with tiny(profile, tmp_path, cached) as settings:  # other nets than those that earlier tests may have left
        found = Namepin(settings).extract(posts_of(tmp_path)[post])
    assert sum(entity.mask is not None for entity in found.entities) > 1
    assert sorted(seen) == sorted(owner.__name__ for owner, _ in encoders)
