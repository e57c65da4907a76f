"""The tagger's rows: augmentation, the CC-BY tweets' form, batches, and spans of tags."""

import random
from pathlib import Path

from namepin.finetune.tagger.data import (
    Example,
    Span,
    by_length,
    mention_pool,
    read_ccby,
    read_gmner,
    spans_of,
    swap_mentions,
)
from support.tagger_posts import write_posts


def test_swapped_mentions_keep_their_type_and_place() -> None:
    pool = mention_pool([Example("p", ("Di", "Eves"), (Span(0, 2, "PER", {"actor": 1.0}),))])
    example = Example("a", ("hi", "Bo", "and", "Rome"), (Span(1, 2, "PER"), Span(3, 4, "LOC")), "knowledge")
    pool["LOC"] = [(("Oslo",), Span(0, 1, "LOC"))]
    swapped = swap_mentions(example, pool, random.Random(0), 1.0)
    assert swapped.words == ("hi", "Di", "Eves", "and", "Oslo") and swapped.knowledge is None
    assert swapped.spans == (Span(1, 3, "PER", {"actor": 1.0}), Span(4, 5, "LOC"))
    assert swap_mentions(example, pool, random.Random(0), 0.0).words == example.words


def test_ccby_tweets_take_the_form_of_gmner(tmp_path: Path) -> None:
    (tmp_path / "btc").mkdir()
    (tmp_path / "wnut17").mkdir()
    (tmp_path / "btc" / "a.conll").write_text("@ada\tB-PER\nin\tO\n#Rome\tB-LOC\n\n\t\n@\tO\nbo\tB-PER\n")
    (tmp_path / "wnut17" / "x.conll").write_text("Ghost\tB-creative-work\nShip\tI-creative-work\n")
    first, second, third = read_ccby(tmp_path)
    assert first.words == ("@", "ada", "in", "#", "Rome") and first.spans == (Span(4, 5, "LOC"),)
    assert second.words == ("@", "bo") and second.spans == ()
    assert third.spans == (Span(0, 2, "OTHER"),)


def test_batches_hold_every_item_once(tmp_path: Path) -> None:
    write_posts(tmp_path / "gmner", "train", 96)
    items = [(e, i % 2 == 0) for i, e in enumerate(read_gmner(tmp_path / "gmner", "train"))]
    for rng in (None, random.Random(0)):
        batches = by_length(items, 7, rng)
        assert sorted(e.id for part in batches for e, _ in part) == sorted(e.id for e, _ in items)
        assert {len(batch) for batch in batches[:-1]} == {7}, "a shorter batch is the last one"


def test_spans_of_repairs_lone_insides() -> None:
    assert spans_of(["I-PER", "B-PER", "I-PER", "O", "I-LOC", "I-ORG"]) == [
        (0, 1, "PER"), (1, 3, "PER"), (4, 5, "LOC"), (5, 6, "ORG"),
    ]  # fmt: skip
