"""Extractions and pictures for the tests of the renderings."""

import io
from typing import Any

import numpy as np
from PIL import Image

from namepin.agent.render.view import PostView
from namepin.tools.types import Entity, Extraction, ImageRef, Mask, Notice

SIZE = (320, 240)


def entity(text: str, name: str, **fields: Any) -> Entity:
    """The first occurrence of `name` in `text`, whose tokens are those between blanks."""
    start = text.index(name)
    first = len(text[:start].split())
    defaults: dict[str, Any] = {
        "label": "PER",
        "fine_label": "athlete",
        "scores": {"athlete": 0.8, "actor": 0.15, "author": 0.05},
        "entropy": 0.61,
        "provenance": ("tagger", "matcher"),
    }
    where = {"start": start, "end": start + len(name), "token_span": (first, first + len(name.split()))}
    return Entity(text=name, **where, **(defaults | fields))


def ellipse(box: tuple[float, float, float, float], size: tuple[int, int] = SIZE) -> Mask:
    """An elliptic mask that fills a box."""
    x1, y1, x2, y2 = box
    xs, ys = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    inside = ((2 * xs - x1 - x2) / (x2 - x1)) ** 2 + ((2 * ys - y1 - y2) / (y2 - y1)) ** 2 <= 1
    return Mask.from_array(inside)


def placed(text: str, name: str, box: tuple[float, float, float, float], **fields: Any) -> Entity:
    """An entity that is in the picture."""
    found: dict[str, Any] = {"groundable": True, "match_score": 0.9, "box": box, "mask": ellipse(box)}
    return entity(text, name, **(found | fields))


def post_view(text: str, *entities: Entity, size: tuple[int, int] | None = SIZE, **fields: Any) -> PostView:
    """An extraction with a grey picture of `size`; None is a post without one."""
    ref = ImageRef(sha256="a" * 64, width=size[0], height=size[1]) if size else None
    extraction = Extraction(
        id=fields.pop("id", "sample"),
        text=text,
        tokens=tuple(text.split()),
        image=ref,
        entities=entities,
        fingerprint="f" * 64,
        timings_ms=fields.pop("timings_ms", {"tagger": 20.0, "matcher": 400.0}),
        **fields,
    )
    return PostView(extraction, Image.new("RGB", size, (120, 120, 120)) if size else None)


TEXT = "Ada Example met Bo Other at the Grand Place"


def full() -> PostView:
    """Two people in the picture, one of them ambiguous, a place that is not, and a warning."""
    return post_view(
        TEXT,
        placed(TEXT, "Ada Example", (10.0, 20.0, 120.0, 230.0), evidence="the larger of two faces"),
        placed(TEXT, "Bo Other", (180.0, 30.0, 300.0, 230.0), ambiguous=True),
        entity(TEXT, "Grand Place", label="LOC", fine_label="park", groundable=False, match_score=0.1),
        status="degraded",
        warnings=(Notice(code="W103", tool="knowledge", message="the server is down"),),
    )


def image_bytes(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
