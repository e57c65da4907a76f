"""The domain types: validated, frozen, and unchanged by a trip through JSON."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from namepin.tools.types import Entity, Extraction, Grounding, ImageRef, Mask, Mention, Notice, Post, token_offsets

SHA = "ab" * 32
TEXT = "Meet Ada Example 🚀 today"
TOKENS = ("Meet", "Ada", "Example", "🚀", "today")


def an_entity(**changes: object) -> Entity:
    mask = np.zeros((48, 64), dtype=bool)
    mask[5:20, 10:30] = True
    fields = {
        "text": "Ada Example",
        "start": 5,
        "end": 16,
        "token_span": (1, 3),
        "label": "PER",
        "fine_label": "athlete",
        "scores": {"athlete": 0.81, "actor": 0.1 + 0.2},
        "entropy": 0.63,
        "groundable": True,
        "match_score": 1 / 3,
        "box": (10.0, 5.0, 30.0, 20.0),
        "mask": Mask.from_array(mask),
        "peak": (12, 9),
        "provenance": ("tagger", "matcher"),
    }
    return Entity(**(fields | changes))


def an_extraction(**changes: object) -> Extraction:
    fields = {
        "id": "x",
        "text": TEXT,
        "tokens": TOKENS,
        "image": ImageRef(sha256=SHA, width=64, height=48),
        "entities": (an_entity(),),
        "warnings": (Notice(code="W103", tool="knowledge", message="down"),),
        "fingerprint": "f",
        "timings_ms": {"tagger": 12.1},
    }
    return Extraction(**(fields | changes))


def test_extraction_json_roundtrip_equals_extraction() -> None:
    extraction = an_extraction(extra={"lang": "en", "n": [1, None]})
    again = Extraction.model_validate_json(extraction.to_json())
    assert again == extraction
    assert again.to_json() == extraction.to_json()


def test_extraction_json_without_extra_omits_field() -> None:
    assert '"extra"' not in an_extraction().to_json()


def test_entity_assignment_raises_validation_error() -> None:
    with pytest.raises(ValidationError):
        an_entity().label = "ORG"  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        {"start": 4, "end": 15},
        {"end": 17},
        {"token_span": (1, 2)},
        {"token_span": (3, 3)},
        {"token_span": (1, 9)},
        {"label": "GPE"},
        {"label": "ORG"},
        {"fine_label": "astronaut"},
        {"box": (30.0, 5.0, 10.0, 20.0)},
        {"box": (float("nan"), 5.0, 10.0, 20.0)},
        {"groundable": False},
        {"groundable": None},
        {"mask": Mask.from_array(np.ones((5, 5), dtype=bool))},
        {"match_score": 1.5},
    ],
)
def test_extraction_with_inconsistent_entity_raises_validation_error(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        an_extraction(entities=(an_entity(**changes),))


def test_extraction_with_entities_out_of_order_raises_validation_error() -> None:
    today = Entity(text="today", start=19, end=24, token_span=(4, 5), label="OTHER")
    assert an_extraction(entities=(an_entity(), today))
    with pytest.raises(ValidationError, match="order"):
        an_extraction(entities=(today, an_entity()))


def test_grounding_groundable_without_box_is_valid() -> None:
    assert Grounding(groundable=True).box is None


def test_mention_with_foreign_fine_label_raises_validation_error() -> None:
    with pytest.raises(ValidationError, match="belongs to"):
        Mention(index=0, text="a", start=0, end=1, token_span=(0, 1), label="LOC", fine_label="actor")


def test_post_of_tokens_joins_them_to_text() -> None:
    assert Post(id="1", tokens=("New", "York")).text == "New York"
    assert Post(id="1", tokens=("New", "York"), text="New York").tokens == ("New", "York")


@pytest.mark.parametrize(
    "fields",
    [
        {"text": ""},
        {"text": "   \n"},
        {"tokens": ()},
        {"tokens": ("a", "")},
        {"tokens": ("a", "b"), "text": "ab"},
        {"text": "a", "id": ""},
        {"text": "a", "colour": "red"},
    ],
)
def test_post_with_unusable_fields_raises_validation_error(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Post(**({"id": "1"} | fields))


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), min_size=1))
def test_token_offsets_of_joined_tokens_are_exact(tokens: list[str]) -> None:
    text = " ".join(tokens)
    expected, at = [], 0
    for token in tokens:
        expected.append((at, at + len(token)))
        at += len(token) + 1
    found = token_offsets(text, tuple(tokens))
    assert [text[a:b] for a, b in found] == tokens
    if all(token.strip() == token and " " not in token for token in tokens):
        assert list(found) == expected


def test_token_offsets_of_absent_token_raise_value_error() -> None:
    with pytest.raises(ValueError, match="token 1"):
        token_offsets("a b", ("a", "c"))


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_mask_encoding_roundtrip_equals_array(array: np.ndarray) -> None:
    mask = Mask.from_array(array)
    assert (mask.to_array() == array).all()
    box = mask.tight_box()
    if box is None:
        assert not array.any()
    else:
        x1, y1, x2, y2 = map(int, box)
        assert array[y1:y2, x1:x2].sum() == array.sum()
        assert array[y1, x1:x2].any() and array[y2 - 1, x1:x2].any()
        assert array[y1:y2, x1].any() and array[y1:y2, x2 - 1].any()


@given(arrays(bool, st.tuples(st.integers(1, 200), st.integers(1, 200)), elements=st.booleans()))
def test_mask_from_any_array_keeps_size(array: np.ndarray) -> None:
    assert Mask.from_array(array).size == array.shape


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=20))
def test_mask_with_arbitrary_counts_decodes_or_raises_validation_error(counts: str) -> None:
    try:
        mask = Mask(size=(3, 4), counts=counts)
    except ValidationError:
        return
    assert mask.to_array().shape == (3, 4)


@pytest.mark.parametrize("counts", ["", "P", "1", "é", "oooooooooooooo", "<0<0"])
def test_mask_with_broken_counts_raises_validation_error(counts: str) -> None:
    with pytest.raises(ValidationError):
        Mask(size=(3, 4), counts=counts)
