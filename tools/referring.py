"""The referring expression (RiVEG section IV-B2), which entailment and grounding read instead of the bare name."""

from typing import Literal

DASH = " – "
"""An en dash between blanks, as the paper prints it."""

Reading = Literal["both", "entity", "expansion"]
"""The part of a referring expression that is read (RiVEG, Table X): `expression.text` of a profile."""


def referring_expression(text: str, label: str, expansion: str | None, reading: Reading) -> str:
    """`Named Entity (TYPE) – expansion`, or the part of it that is read.

    TYPE is the 4-type label as the data set writes it (the paper's tables say MISC where GMNER has OTHER). A mention
    without an expansion is `Named Entity (TYPE)` under every reading.
    """
    entity = f"{text} ({label})"
    if not expansion or reading == "entity":
        return entity
    return expansion if reading == "expansion" else f"{entity}{DASH}{expansion}"
