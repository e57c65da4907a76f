"""Invented names: syllables from a seed. Every word is in one split only, so a test name never occurs in training."""

import random

SPLITS = ("train", "dev", "test")
_ONSETS = ("b", "br", "c", "d", "dr", "f", "g", "h", "j", "k", "kl", "l", "m", "n", "p", "r", "s", "st", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ee", "ou")
_CODAS = ("", "", "l", "n", "r", "s", "t", "x", "ck", "nd")
_SHARES = {"train": 0.7, "dev": 0.15, "test": 0.15}

ORDINARY = frozenset("can not dan den don men ten pen hat cat bat rat sat sun son red bus cup cut man let get".split())
"""Ordinary words, which are never names."""


def word(rng: random.Random) -> str:
    """Two or three syllables."""
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + (rng.choice(_CODAS) if last else "")
        for last in ([False, True] if rng.random() < 0.7 else [False, False, True])
    )


def words_of(seed: int, count: int = 6000) -> dict[str, list[str]]:
    """Capitalised words for each split. No word is in two splits, in any spelling."""
    rng = random.Random(f"names/{seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        name = word(rng)
        if name not in ORDINARY and len(name) > 3:
            found[name] = None
    every, by_split, start = list(found), {}, 0
    for split in SPLITS:
        stop = start + int(count * _SHARES[split])
        by_split[split] = [name.capitalize() for name in every[start:stop]]
        start = stop
    return by_split
