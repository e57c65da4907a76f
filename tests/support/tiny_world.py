"""A data set small enough to learn by heart, in GMNER's layout: a name is in the picture where a red patch is."""

from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("ada", "bob", "cleo", "dan", "eve", "finn", "gus", "hal")
SIZE = (48, 48)


def write_world(root: Path, posts: int = 8, *, groundable: bool | None = None) -> Path:
    """`root` with train and dev of so many posts; with `groundable`, all mentions are in their pictures, or none."""
    for folder in ("txt", "xml", "images"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(4)
    for split in ("train", "dev"):
        lines = []
        for number in range(posts):
            key, name = f"{split}{number}", NAMES[number % len(NAMES)]
            seen = number % 2 == 0 if groundable is None else groundable
            lines += [f"IMGID:{key}", f"{name}\tB-PER", "runs\tO", ""]
            pixels = rng.integers(90, 160, (*SIZE, 3)).astype(np.uint8)
            box = (8 * (number % 3), 8, 8 * (number % 3) + 20, 30)
            if seen:
                pixels[box[1] : box[3], box[0] : box[2]] = (240, 10, 10)
            Image.fromarray(pixels).save(root / "images" / f"{key}.jpg", quality=95)
            (root / "xml" / f"{key}.xml").write_text(_annotation(name, box if seen else None), encoding="utf-8")
        (root / "txt" / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def _annotation(name: str, box: tuple[int, int, int, int] | None) -> str:
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    if box is None:
        return f"<annotation>{size}<object><name>{name}</name><difficult>0</difficult></object></annotation>"
    edges = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<annotation>{size}<object><name>{name}</name><bndbox>{edges}</bndbox></object></annotation>"
