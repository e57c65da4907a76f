"""Alignment of an answer to the post, and the answer of a gold post read back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from namepin.tools.extractor.align import align, fold
from namepin.tools.extractor.answer import AnswerItem, GoldMention, read_answer, write_answer
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.result import extracted
from namepin.tools.geometry import box_iou
from namepin.tools.interfaces import ExtractRequest
from namepin.tools.labels import COARSE4
from namepin.tools.types import ImageRef

PICTURE = ImageRef(sha256="0" * 64, width=640, height=427)
FRAME = BoxFrame("thousand", (640, 427), (PICTURE.width, PICTURE.height))
Span = tuple[int, int]


def item(text: str, label: str = "PER", box: Any = None) -> AnswerItem:
    return AnswerItem(text, label, None, box)


def spans(items: Sequence[AnswerItem], text: str) -> list[Span]:
    return [span for span, _ in align(items, text.split()).placed]


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (["BARACK  obama"], "Barack Obama spoke", [(0, 2)]),
        (["U.S."], "the U . S . team", [(1, 5)]),
        (["Beyonce"], "now Beyoncé sings", [(1, 2)]),
        (["Paris", "Paris Hilton"], "Paris Hilton in Paris", [(0, 2), (3, 4)]),
        (["Paris"], "Paris to paris", [(0, 1), (2, 3)]),
        (["#NBA"], "go # NBA go", [(1, 3)]),
        (["(NBA)"], "go # NBA go", [(2, 3)]),
        (["Barack Oba"], "Barack Obama spoke", [(0, 2)]),
        (["rack Obama"], "Barack Obama spoke", [(0, 2)]),
        (["Ba"], "Barack spoke", []),
        (["Bara"], "Baralongername spoke", []),
        (["aracko"], "Barack Obama spoke", []),
        (["Berlin", ""], "Barack Obama spoke", []),
        (["东京"], "在 东 京 塔", [(1, 3)]),
    ],
)
def test_align_name_of_answer_gives_tokens_by_the_rule(names: list[str], text: str, expected: list[Span]) -> None:
    assert spans([item(name) for name in names], text) == expected


def test_align_name_with_two_types_takes_places_in_turn() -> None:
    found = align(
        [item("Paris", "PER"), item("Paris", "LOC"), item("Paris", "LOC")], "Paris met Paris in Paris".split()
    )
    assert [(span, one.label) for span, one in found.placed] == [((0, 1), "PER"), ((2, 3), "LOC"), ((4, 5), "LOC")]
    assert not found.unplaced


def test_align_names_not_in_text_or_beyond_their_places_are_counted() -> None:
    found = align([item("Paris"), item("Paris", "LOC"), item("Rome")], ["Paris", "shines"])
    assert [one.text for one in found.unplaced] == ["Paris", "Rome"] and len(found.placed) == 1


def test_align_name_of_a_whole_paragraph_is_not_placed() -> None:
    words = [f"w{i}" for i in range(40)]
    assert align([item(" ".join(words))], words).placed == ()


def _stable(word: str) -> bool:
    """Whether a change of case leaves the word's folded characters alone, which some letters do not."""
    return bool(fold(word)) and len({fold(changed) for changed in (word, word.upper(), word.lower())}) == 1


WORDS = st.text(st.characters(categories=("L", "N"), max_codepoint=0x2000), min_size=1, max_size=5).filter(_stable)
MARKS = st.sampled_from([".", "'", "-", "&", "@"])


@dataclass(frozen=True)
class GoldCase:
    """A post in which every place of a name is gold, and a noisy answer with all of its names."""

    tokens: tuple[str, ...]
    gold: dict[Span, GoldMention]
    answer: str


@st.composite
def gold_cases(draw: st.DrawFn) -> GoldCase:
    shared = st.sampled_from([*draw(st.lists(WORDS, min_size=2, max_size=4)), draw(MARKS)])  # so that names share words
    name = st.lists(shared, min_size=1, max_size=3).filter(lambda name: any(map(str.isalnum, name)))
    names = draw(st.lists(name, min_size=1, max_size=4, unique_by=lambda name: fold("".join(name))))
    kinds = [(draw(st.sampled_from(COARSE4)), draw(BOXES)) for _ in names]
    tokens: list[str] = []
    gold: dict[Span, GoldMention] = {}
    for which in draw(st.lists(st.integers(-2, len(names) - 1), min_size=1, max_size=8)):
        if which < 0:
            tokens.append(draw(WORDS))
            continue
        start = len(tokens)
        tokens += names[which]
        gold[start, len(tokens)] = GoldMention(" ".join(names[which]), *kinds[which])
    assume(all(any(a <= i and j <= b for a, b in gold) for i, j in _occurrences(tokens, names)))
    return GoldCase(tuple(tokens), gold, draw(noisy_answers(list(gold.values()))))


BOXES = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 599), st.integers(0, 399), st.integers(20, 300), st.integers(20, 300)).map(
        lambda b: (float(b[0]), float(b[1]), float(min(640, b[0] + b[2])), float(min(427, b[1] + b[3])))
    ),
)


def _occurrences(tokens: list[str], names: list[list[str]]) -> list[Span]:
    wanted = {fold("".join(name)) for name in names}
    ends = range(1, len(tokens) + 1)
    return [(i, j) for j in ends for i in range(j) if fold("".join(tokens[i:j])) in wanted]


@st.composite
def noisy_answers(draw: st.DrawFn, mentions: list[GoldMention]) -> str:
    """The answer with its items in another order, repeated, and in other case and spacing."""
    rows = []
    for mention in draw(st.permutations(mentions)):
        for _ in range(draw(st.integers(1, 2))):
            change = draw(st.sampled_from([str, str.upper, str.lower, str.title, str.swapcase]))
            text = draw(st.sampled_from(["", " ", "  ", "\n"])).join(mention.text.split(" "))
            rows.append(
                GoldMention(text if fold(change(text)) != fold(text) else change(text), mention.type, mention.box)
            )
    return write_answer(rows, FRAME)


@given(gold_cases())
def test_extracted_noisy_answer_of_a_gold_post_gives_its_spans_types_and_boxes(case: GoldCase) -> None:
    answer = read_answer(case.answer, "gmner4", most=len(case.answer))
    assert answer is not None
    request = ExtractRequest(text=" ".join(case.tokens), tokens=case.tokens, image=PICTURE)
    found = extracted(request, answer, FRAME, "extractor")
    assert [m.token_span for m in found.mentions] == sorted(case.gold)
    assert not found.notices
    for mention, place in zip(found.mentions, found.places, strict=True):
        gold = case.gold[mention.token_span]
        assert mention.label == gold.type and place.groundable == (gold.box is not None)
        if gold.box is not None:
            assert place.box is not None and box_iou(place.box, gold.box) > 0.85


@given(st.text(max_size=60), st.lists(st.text(max_size=12), max_size=8))
def test_extracted_any_names_are_text_of_the_post(text: str, names: list[str]) -> None:
    tokens = tuple(text.split())
    assume(tokens)
    request = ExtractRequest(text=" ".join(tokens), tokens=tokens)
    items = read_answer(write_answer([GoldMention(name, "PER") for name in names], None), "gmner4")
    assert items is not None
    found = extracted(request, items, None, "extractor")
    assert all(request.text[m.start : m.end] == m.text for m in found.mentions)
    taken = [i for m in found.mentions for i in range(*m.token_span)]
    assert taken == sorted(set(taken))
