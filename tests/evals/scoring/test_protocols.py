"""Counting rules on cases worked out by hand: ours, and each quirk of the three groups of authors."""

import pytest

from namepin.evals.scoring.protocols import PROTOCOLS, Case, Count, Item
from namepin.tools.geometry import box_iou, mask_iou
from support.eval_samples import mask_of

HALF, FULL = (0.0, 0.0, 5.0, 10.0), (0.0, 0.0, 10.0, 10.0)
"""IoU exactly 0.5."""


def item(
    text: str, label: str | None, at: int = 0, box: tuple[float, ...] | None = None, *more: tuple[float, ...]
) -> Item:
    regions = () if box is None else (box, *more)
    return Item((at, at + len(text)), text, label or "PER", label, bool(regions), regions)  # type: ignore[arg-type]


def text_item(text: str, label: str, at: int = 0) -> Item:
    return Item((at, at + len(text)), text, label, label)


def counted(
    protocol: str, gold: list[Item], predicted: list[Item], iou: float = 0.5, **more: object
) -> tuple[int, ...]:
    count = PROTOCOLS[protocol](Case(gold, predicted, **more), iou)  # type: ignore[arg-type]
    return count.correct, count.predicted, count.gold


def test_box_iou_adds_no_plus_one() -> None:
    assert box_iou(HALF, FULL) == 0.5
    assert box_iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0
    assert box_iou(FULL, FULL) == 1


def test_mask_iou_counts_pixels_and_is_zero_for_other_size() -> None:
    assert mask_iou(mask_of(0, 0, 10, 10), mask_of(0, 0, 5, 10)) == 0.5
    assert mask_iou(mask_of(0, 0, 10, 10), mask_of(0, 0, 10, 10, width=21)) == 0


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        pytest.param([item("A", "PER", 0, FULL)], [item("A", "PER", 0, HALF)], (1, 1, 1), id="0.5 is enough"),
        pytest.param([item("A", "PER", 0, FULL, (50, 50, 60, 60))], [item("A", "PER", 0, (50, 50, 60, 60))], (1, 1, 1),
                     id="any gold box will do"),
        pytest.param([item("A", "PER")], [item("A", "PER")], (1, 1, 1), id="both not in the picture"),
        pytest.param([item("A", "PER")], [item("A", "PER", 0, FULL)], (0, 1, 1), id="grounded, gold not"),
        pytest.param([item("A", "PER", 0, FULL)], [item("A", "PER")], (0, 1, 1), id="not grounded, gold is"),
        pytest.param([item("A", "PER", 0)], [item("A", "PER", 9)], (0, 1, 1), id="same words elsewhere are another"),
        pytest.param([], [item("A", "PER")], (0, 1, 0), id="a post without entities counts false positives"),
        pytest.param([item("A", "PER")], [item("A", "PER"), item("A", "PER")], (1, 1, 1), id="equal ones are one"),
        pytest.param([item("A", "PER")], [item("A", "PER"), item("A", "LOC")], (1, 2, 1), id="others count each"),
        pytest.param([item("A", "PER", 0, FULL)], [item("A", "PER", 0, FULL), item("A", "PER", 0, HALF)], (1, 2, 1),
                     id="two boxes for one entity: one can be right"),
        pytest.param([item("A", None)], [item("A", None)], (1, 1, 1), id="EEG asks no type"),
    ],
)  # fmt: skip
def test_canonical_counts_equal_hand_counts(gold: list[Item], predicted: list[Item], expected: tuple[int, ...]) -> None:
    assert counted("canonical", gold, predicted) == expected


def test_protocols_never_match_groundable_without_region() -> None:
    claimed = Item((0, 1), "A", "PER", "PER", True, ())
    for protocol in PROTOCOLS:
        assert counted(protocol, [item("A", "PER", 0, FULL)], [claimed])[0] == 0
        assert counted(protocol, [item("A", "PER")], [claimed])[0] == 0


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        pytest.param([item("A", "PER", 0)], [item("A", "PER", 9)], (1, 1, 1), id="position does not matter"),
        pytest.param([item("A", "PER", 0), item("A", "PER", 9)], [item("A", "PER", 0), item("A", "PER", 9)], (2, 2, 2),
                     id="repeated words count each and are used up"),
        pytest.param([item("A", "PER", 0)], [item("A", "PER", 0), item("A", "PER", 0)], (1, 2, 1),
                     id="a duplicate prediction is wrong"),
        pytest.param([item("A", "PER", 0, FULL)], [item("A", "PER", 0, HALF)], (1, 1, 1), id="IoU 0.5 is enough"),
        pytest.param([item("A", "PER", 0), item("A", "PER", 9, FULL)], [item("A", "PER", 0, FULL), item("A", "PER", 9)],
                     (2, 2, 2), id="crossed groundings find their partners by region"),
        pytest.param([item("A (x", None, 0)], [item("A (y", None, 0)], (1, 1, 1),
                     id="EEG reads the words up to the first bracket"),
        pytest.param([item("A (x", "PER", 0)], [item("A (y", "PER", 0)], (0, 1, 1), id="GMNER reads them whole"),
        pytest.param([item("A", "PER", 0, FULL)], [item("A", "PER", 0)], (0, 1, 1), id="not grounded, gold is"),
    ],
)  # fmt: skip
def test_riveg_counts_equal_hand_counts(gold: list[Item], predicted: list[Item], expected: tuple[int, ...]) -> None:
    assert counted("riveg", gold, predicted) == expected


def test_riveg_protocol_matches_greedily_in_order() -> None:
    """The first prediction takes the gold entity that only the second could have had, and both boxes are near both."""
    wide = (0.0, 0.0, 14.0, 10.0)
    gold = [item("A", "PER", 0, FULL), item("A", "PER", 9, wide)]
    assert counted("riveg", gold, [item("A", "PER", 0, wide), item("A", "PER", 9, HALF)]) == (1, 2, 2)
    assert counted("riveg", gold, [item("A", "PER", 9, HALF), item("A", "PER", 0, wide)]) == (2, 2, 2)


def test_riveg_protocol_text_task_equals_canonical() -> None:
    gold, predicted = [text_item("A", "PER", 0)], [text_item("A", "PER", 9)]
    assert counted("riveg", gold, predicted) == counted("canonical", gold, predicted) == (0, 1, 1)


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        pytest.param([item("A", "PER", 0, FULL)], [item("A", "PER", 0, HALF)], (0, 1, 1), id="0.5 is not enough"),
        pytest.param([item("A", "PER")], [item("A", "LOC"), item("A", "PER")], (1, 1, 1), id="the last one wins"),
        pytest.param([item("A", "PER")], [item("A", "PER"), item("A", "LOC")], (0, 1, 1), id="even if it is wrong"),
        pytest.param([item("A", "PER", 0)], [item("A", "PER", 9)], (0, 1, 1), id="identity is the span"),
    ],
)
def test_hindex_counts_equal_hand_counts(gold: list[Item], predicted: list[Item], expected: tuple[int, ...]) -> None:
    assert counted("hindex", gold, predicted) == expected


@pytest.mark.parametrize("protocol", ["hindex", "tiger"])
def test_detector_protocols_with_undetected_entity_match_nothing(protocol: str) -> None:
    far = (90.0, 90.0, 99.0, 99.0)
    gold = [item("A", "PER", 0, FULL)]
    assert counted(protocol, gold, [item("A", "PER", 0, far)], proposals=[far]) == (0, 1, 1)
    assert counted(protocol, gold, [item("A", "PER", 0)], proposals=[far]) == (0, 1, 1)
    assert counted(protocol, gold, [item("A", "PER", 0, FULL)], proposals=[far, FULL]) == (1, 1, 1)
    assert counted(protocol, [item("A", "PER")], [item("A", "PER")], proposals=[far]) == (1, 1, 1)


def test_hindex_protocol_snaps_region_to_its_proposal() -> None:
    proposals = [(0.0, 0.0, 9.0, 10.0), (80.0, 80.0, 99.0, 99.0)]
    assert counted("hindex", [item("A", "PER", 0, FULL)], [item("A", "PER", 0, HALF)], proposals=proposals) == (1, 1, 1)


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        pytest.param([item("A", "PER", 0), item("A", "PER", 9)], [item("A", "PER", 0)], (1, 1, 1), id="gold collapses"),
        pytest.param([item("A", "PER", 0, FULL)], [item("A", "PER", 0, HALF)], (0, 1, 1), id="0.5 is not enough"),
        pytest.param([item("A", "PER", 0)], [item("A", "PER", 9)], (1, 1, 1), id="position does not matter"),
        pytest.param([item("A", "PER", 0, FULL), item("A", "PER", 9, (50, 50, 60, 60))], [item("A", "PER", 0, FULL)],
                     (0, 1, 1), id="the last duplicate's region stays"),
        pytest.param([item("A", "PER", 0), item("A", "PER", 9, FULL)], [item("A", "PER", 0)], (1, 1, 2),
                     id="in the picture and not in it are two keys"),
        pytest.param([item("False Alarm", "OTHER", 0, FULL)], [item("False Alarm", "OTHER", 0, (50, 50, 60, 60))],
                     (1, 1, 1), id="the word False in a name is taken for not in the picture"),
        pytest.param([item("A", None, 0)], [item("A", None, 0), item("A", None, 9)], (1, 1, 1), id="EEG"),
    ],
)  # fmt: skip
def test_tiger_counts_equal_hand_counts(gold: list[Item], predicted: list[Item], expected: tuple[int, ...]) -> None:
    assert counted("tiger", gold, predicted) == expected


def test_tiger_protocol_eeg_counts_keys_by_type_without_consuming_gold() -> None:
    gold = [Item((0, 1), "A", "city", None, False)]
    predicted = [Item((0, 1), "A", "city", None, False), Item((5, 6), "A", "state", None, False)]
    assert counted("tiger", gold, predicted) == (2, 2, 1)


def test_count_addition_sums_and_empty_count_scores_zero() -> None:
    assert Count(1, 2, 3) + Count(1, 0, 0) == Count(2, 2, 3)
    assert (Count().precision, Count().recall, Count().f1) == (0, 0, 0)
    assert Count(1, 2, 4).f1 == pytest.approx(2 * 0.5 * 0.25 / 0.75)
