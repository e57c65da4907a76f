"""The tagger's rows: augmentation, the CC-BY tweets' form, batches, and spans of tags."""

import random
import re
from pathlib import Path

import pytest

from namepin.evals.run import load_dataset, recorded_knowledge
from namepin.finetune.tagger.data import (
    Example,
    Span,
    by_length,
    mention_pool,
    read_ccby,
    read_fmnerg,
    read_gmner,
    spans_of,
    swap_mentions,
)
from namepin.tools.errors import NamepinError
from namepin.tools.tagger.adapter import TaggerSpec
from support.tagger_posts import write_posts


def test_swap_mentions_keeps_type_and_position() -> None:
    pool = mention_pool([Example("p", ("Di", "Eves"), (Span(0, 2, "PER", {"actor": 1.0}),))])
    example = Example("a", ("hi", "Bo", "and", "Rome"), (Span(1, 2, "PER"), Span(3, 4, "LOC")), "knowledge")
    pool["LOC"] = [(("Oslo",), Span(0, 1, "LOC"))]
    swapped = swap_mentions(example, pool, random.Random(0), 1.0)
    assert swapped.words == ("hi", "Di", "Eves", "and", "Oslo") and swapped.knowledge is None
    assert swapped.spans == (Span(1, 3, "PER", {"actor": 1.0}), Span(4, 5, "LOC"))
    assert swap_mentions(example, pool, random.Random(0), 0.0).words == example.words


def test_mentions_swapped_within_their_fine_type_keep_it() -> None:
    mayor, singer = Span(0, 1, "PER", {"politician": 1.0}), Span(0, 1, "PER", {"musician": 1.0})
    pool = mention_pool([Example("p", ("Di",), (mayor,)), Example("q", ("Cher",), (singer,))], "fine")
    for seed in range(8):
        swapped = swap_mentions(Example("a", ("Bo",), (mayor,)), pool, random.Random(seed), 1.0, "fine")
        assert swapped.words == ("Di",) and swapped.spans == (mayor,)


def test_fmnerg_takes_the_knowledge_of_gmner_only_for_the_same_posts(tmp_path: Path) -> None:
    write_posts(tmp_path / "gmner", "dev", 8)
    text = (tmp_path / "gmner" / "txt" / "dev.txt").read_text()
    fine = {"PER": "person\t{0}-actor", "LOC": "location\t{0}-city"}
    text = re.sub(r"([BI])-(PER|LOC)", lambda tag: f"{tag[1]}-{fine[tag[2]].format(tag[1])}", text)
    text = re.sub(r"\tO$", "\tO\tO", text, flags=re.M)
    (tmp_path / "fmnerg" / "txt_fine").mkdir(parents=True)
    file, spec = tmp_path / "fmnerg" / "txt_fine" / "dev.txt", TaggerSpec(scheme="4/51")
    file.write_text(text)
    known = [example.knowledge for example in read_gmner(tmp_path / "gmner", "dev")]
    examples = read_fmnerg(tmp_path / "fmnerg", "dev", spec)
    assert known[0] and [example.knowledge for example in examples] == known
    data = load_dataset("fmnerg", tmp_path / "fmnerg", "dev")
    recorded = recorded_knowledge(tmp_path / "fmnerg", "dev", data)
    assert recorded[" ".join(examples[0].words)] == known[0]
    file.write_text(text.replace("IMGID:", "IMGID:other", 1))
    assert {example.knowledge for example in read_fmnerg(tmp_path / "fmnerg", "dev", spec)} == {None}
    with pytest.raises(NamepinError, match="E130"):
        recorded_knowledge(tmp_path / "fmnerg", "dev", load_dataset("fmnerg", tmp_path / "fmnerg", "dev"))


def test_read_ccby_splits_marks_and_maps_types_to_gmner(tmp_path: Path) -> None:
    (tmp_path / "btc").mkdir()
    (tmp_path / "wnut17").mkdir()
    (tmp_path / "btc" / "a.conll").write_text("@ada\tB-PER\nin\tO\n#Rome\tB-LOC\n\n\t\n@\tO\nbo\tB-PER\n")
    (tmp_path / "wnut17" / "x.conll").write_text("Ghost\tB-creative-work\nShip\tI-creative-work\n")
    first, second, third = read_ccby(tmp_path)
    assert first.words == ("@", "ada", "in", "#", "Rome") and first.spans == (Span(4, 5, "LOC"),)
    assert second.words == ("@", "bo") and second.spans == ()
    assert third.spans == (Span(0, 2, "OTHER"),)


def test_by_length_batches_contain_every_item_once(tmp_path: Path) -> None:
    write_posts(tmp_path / "gmner", "train", 96)
    items = [(e, i % 2 == 0) for i, e in enumerate(read_gmner(tmp_path / "gmner", "train"))]
    for rng in (None, random.Random(0)):
        batches = by_length(items, 7, rng)
        assert sorted(e.id for part in batches for e, _ in part) == sorted(e.id for e, _ in items)
        assert {len(batch) for batch in batches[:-1]} == {7}, "a shorter batch is the last one"


def test_spans_of_lone_inside_tags_starts_new_span() -> None:
    assert spans_of(["I-PER", "B-PER", "I-PER", "O", "I-LOC", "I-ORG"]) == [
        (0, 1, "PER"), (1, 3, "PER"), (4, 5, "LOC"), (5, 6, "ORG"),
    ]  # fmt: skip
