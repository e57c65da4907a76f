"""The label schemes of GMNER and FMNERG."""

from collections import Counter
from pathlib import Path

import pytest

from namepin.tools.errors import NamepinError
from namepin.tools.labels import COARSE4, COARSE8, FINE51, FINE_TO_COARSE4, FMNERG_TREE, canonical_label
from support.paths import ROOT


def test_label_scheme_counts_equal_papers() -> None:
    assert (len(COARSE4), len(COARSE8), len(FINE51), len(set(FINE51))) == (4, 8, 51, 51)
    assert {c: len(f) for c, f in FMNERG_TREE.items()} == {
        "location": 7,
        "building": 4,
        "organization": 10,
        "person": 13,
        "other": 5,
        "art": 5,
        "event": 3,
        "product": 4,
    }


def test_fine_types_each_have_one_coarse4_parent() -> None:
    assert Counter(FINE_TO_COARSE4.values()) == {"PER": 13, "ORG": 10, "LOC": 11, "OTHER": 17}
    assert sorted(FINE_TO_COARSE4) == sorted(FINE51) and set(FINE_TO_COARSE4.values()) == set(COARSE4)


@pytest.mark.parametrize(
    ("fine", "coarse"), [("sports_facility", "LOC"), ("band", "ORG"), ("character", "PER"), ("festival", "OTHER")]
)
def test_fine_to_coarse4_maps_fine_type_to_parent(fine: str, coarse: str) -> None:
    assert FINE_TO_COARSE4[fine] == coarse


def test_canonical_label_resolves_alias_or_raises_e110() -> None:
    assert canonical_label("common_person", "fmnerg51") == "person_other"
    assert canonical_label("PER", "gmner4") == "PER"
    with pytest.raises(NamepinError, match="E110"):
        canonical_label("PER", "fmnerg51")


@pytest.mark.data
@pytest.mark.parametrize("file", ["fmnerg/txt_fine/train", "fmnerg/txt_fine/dev", "fmnerg-test300/txt_fine/dev"])
def test_canonical_label_knows_every_fine_label_of_releases(data_root: Path, file: str) -> None:
    lines = (data_root / f"{file}.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line.count("\t") == 2]
    tags = {(coarse[2:], fine[2:]) for _, coarse, fine in rows if coarse != "O"}
    assert len(tags) > 30
    for coarse, fine in tags:
        assert canonical_label(fine, "fmnerg51") in FMNERG_TREE[canonical_label(coarse, "fmnerg8")]


def test_concepts_page_lists_every_type_with_its_parent() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text("utf-8")
    for group, fine in FMNERG_TREE.items():
        assert f"| {group} | {FINE_TO_COARSE4[fine[0]]} | {', '.join(f'`{one}`' for one in fine)} |" in page
