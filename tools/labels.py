"""The label schemes: GMNER's 4 types, FMNERG's 8 and 51 types, and the mapping between them."""

from collections.abc import Mapping
from types import MappingProxyType

from namepin.tools.errors import NamepinError

COARSE4: tuple[str, ...] = ("PER", "LOC", "ORG", "OTHER")

FMNERG_TREE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "location": ("city", "country", "state", "continent", "location_other", "park", "road"),
        "building": ("building_other", "cultural_place", "entertainment_place", "sports_facility"),
        "organization": (
            "company",
            "educational_institution",
            "band",
            "government_agency",
            "news_agency",
            "organization_other",
            "political_party",
            "social_organization",
            "sports_league",
            "sports_team",
        ),
        "person": (
            "politician",
            "musician",
            "actor",
            "artist",
            "athlete",
            "author",
            "businessman",
            "character",
            "coach",
            "director",
            "intellectual",
            "journalist",
            "person_other",
        ),
        "other": ("animal", "award", "medical_thing", "website", "ordinance"),
        "art": ("art_other", "film_and_television_works", "magazine", "music", "written_work"),
        "event": ("event_other", "festival", "sports_event"),
        "product": ("brand_name_products", "game", "product_other", "software"),
    }
)
"""FMNERG's hierarchy: coarse type (8) -> its fine types (51 in all)."""

COARSE8: tuple[str, ...] = tuple(FMNERG_TREE)
FINE51: tuple[str, ...] = tuple(fine for fines in FMNERG_TREE.values() for fine in fines)

COARSE8_TO_4: Mapping[str, str] = MappingProxyType(
    {"person": "PER", "organization": "ORG", "location": "LOC", "building": "LOC"}
    | dict.fromkeys(("other", "art", "event", "product"), "OTHER")
)
FINE_TO_COARSE8: Mapping[str, str] = MappingProxyType({f: c for c, fines in FMNERG_TREE.items() for f in fines})
FINE_TO_COARSE4: Mapping[str, str] = MappingProxyType({f: COARSE8_TO_4[c] for f, c in FINE_TO_COARSE8.items()})

ALIASES: Mapping[str, str] = MappingProxyType({"common_person": "person_other"})
"""Other names that releases use for some of the 51 types."""

SCHEMES: Mapping[str, tuple[str, ...]] = MappingProxyType({"gmner4": COARSE4, "fmnerg8": COARSE8, "fmnerg51": FINE51})


def canonical_label(name: str, scheme: str) -> str:
    """`name` as the scheme spells it, aliases resolved.

    Raises:
        NamepinError: E110 when the scheme has no such label.
    """
    name = ALIASES.get(name, name)
    if name not in SCHEMES[scheme]:
        raise NamepinError("E110", f"label {name!r} is not in scheme {scheme}", mend="see `tools/labels.py`")
    return name
