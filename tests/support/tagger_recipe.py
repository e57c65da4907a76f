"""A recipe of the tagger that trains in seconds on the posts of tagger_posts.py."""

import dataclasses
from pathlib import Path

from namepin.finetune.recipes.tagger import TaggerRecipe


def recipe(root: Path, out: Path, **changes: object) -> TaggerRecipe:
    base = TaggerRecipe(
        data=str(root), out=str(out), encoder=str(root / "bert"), batch_size=8, epochs=3, knowledge=0.5, threads=1,
        lr_encoder=2e-3, lr_heads=1e-2, ema=0.9, precision="no", dropout=0.0, hide=0.0, knowledge_pieces=24, cpu=True,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]
