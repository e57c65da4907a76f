"""Names of the prompt styles of knowledge, and which of them are the same to a tagger."""

GEM = "gem-table6"
"""The explanation that GEM's Table 6 asks for."""

RECORDED = "riveg-gpt-3.5"
"""The answers that the RiVEG authors recorded: names listed with types, then reasons, asked with PLIM's prompt."""

PLIM = "riveg-plim"
"""The same, asked live."""

_FAMILY = {RECORDED: "plim", PLIM: "plim"}


def same_style(style: str, other: str | None) -> bool:
    """Whether an adapter that was trained on one style has learnt to read the other."""
    return other is not None and _FAMILY.get(style, style) == _FAMILY.get(other, other)
