"""Tags of every scheme, as seqeval reads them."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from namepin.evals.datasets.tags import KINDS, as_bio, is_tag, scheme_of, spans_of_tags

bioes = st.lists(
    st.sampled_from(["O", *(f"{kind}-{label}" for kind in "BIES" for label in ("PER", "LOC"))]), min_size=1
)


@settings(max_examples=500, deadline=None)
@given(bioes)
def test_spans_of_any_bio_or_bioes_tags_equal_seqeval(tags: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert spans_of_tags(tags)[0] == [(first, last + 1, label) for label, first, last in get_entities(tags)]


@pytest.mark.parametrize("letters", ["BILU", "BMEW", "bies"])
def test_spans_of_tags_in_other_letters_equal_bioes_spans(letters: str) -> None:
    spelled = dict(zip("BIES", letters, strict=True))

    @settings(max_examples=100, deadline=None)
    @given(bioes)
    def holds(tags: list[str]) -> None:
        assert spans_of_tags([tag if tag == "O" else spelled[tag[0]] + tag[1:] for tag in tags]) == spans_of_tags(tags)

    holds()


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("B-PER I-PER O B-LOC", "BIO"),
        ("B-PER E-PER O S-LOC", "BIOES"),
        ("B-PER L-PER O U-LOC", "BILOU"),
        ("B-PER M-PER E-PER O S-LOC", "BMES"),
        ("I-PER I-PER B-PER O I-LOC", "IOB1"),
        ("I-PER O", "BIO"),
        ("O I-PER B-LOC", "BIO"),
    ],
)
def test_scheme_of_tags_depends_on_their_letters(tags: str, scheme: str) -> None:
    assert scheme_of([tags.split()]) == scheme


def test_is_tag_accepts_known_prefixes_only() -> None:
    assert all(is_tag(f"{kind}-PER") and is_tag(f"{kind.lower()}-PER") for kind in KINDS) and is_tag("O")
    assert not any(map(is_tag, ("PER", "B-", "PER-B", "X-PER", "", "0", "NN")))
    assert [as_bio(tag) for tag in ("S-PER", "E-PER", "u-PER", "O")] == ["B-PER", "I-PER", "B-PER", "O"]
