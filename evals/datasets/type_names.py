"""Names of types in other data: any case, the 8 and the 51 types, MISC."""

from namepin.tools.labels import ALIASES, COARSE4, COARSE8, COARSE8_TO_4, FINE51, FINE_TO_COARSE4

_COARSE = {label.lower(): label for label in COARSE4} | {label: COARSE8_TO_4[label] for label in COARSE8}
_COARSE |= {"misc": "OTHER", "organisation": "ORG"}
_FINE = {label.lower(): label for label in FINE51} | dict(ALIASES)


def coarse_type(name: str) -> str | None:
    """The coarse type (one of 4) for a name of a coarse or fine type, in any case; None for an unknown name."""
    name = " ".join(name.split()).lower()
    if name in _COARSE:
        return _COARSE[name]
    return FINE_TO_COARSE4.get(_FINE.get(name, ""))


def fine_type(name: str) -> str | None:
    """The fine type (one of 51) for a name, in any case; None for an unknown name."""
    return _FINE.get("_".join(name.split()).lower())
