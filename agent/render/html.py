"""The page: one self-contained HTML file that opens offline, with pictures, overlays and reasons.

The page loads nothing: pictures are data URIs, style and script are inline. The page's content security policy pins
both by hash, so that text could not run even if escaping failed.
"""

import base64
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from namepin.agent.render.view import (
    COLOURS,
    KIND_WORDS,
    PostView,
    ink_on,
    kind,
    notice_sentence,
    presence,
    printable,
    short,
    split_code,
)
from namepin.tools.images import heatmap as heat_map
from namepin.tools.types import Entity, Extraction, ImageRef, Mask

_LONGEST, _SHORTEST = 1280, 320
"""Bounds on the longer side of the inlined picture in pixels; overlays keep the original's coordinates."""

_TOP_TYPES, _LEAST_SHARE = 4, 0.005
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class About:
    """Facts about the run for the page.

    Attributes:
        profile: the profile's name.
        gamma: the entropy gate's threshold in nats, if there is a gate.
        threshold: the smallest match score of a name in the picture, if a tool matches.
    """

    profile: str
    gamma: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Part:
    """The place of a page that holds some of many posts.

    Attributes:
        first: number of its first post, from 1.
        total: number of posts of all pages.
        files: the names of all pages, in order.
        name: this page's name.
    """

    first: int
    total: int
    files: tuple[str, ...]
    name: str


def page(shown: Sequence[PostView], about: About, part: Part | None = None) -> str:
    """The whole HTML document for one or several posts; `part` tells which, where there are several documents."""
    posts = [_post(f"post-{number}", item) for number, item in enumerate(shown, 1)]
    style = environment().get_template("page.css.j2").render(hues=_hues(), warmth=warmth(), posts=posts)
    script = article_script() + (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            posts=posts,
            about=about,
            part=part,
            style=Markup(style),
            script=Markup(script),
            style_hash=source_hash(style),
            script_hash=source_hash(script),
            entities=sum(len(item.extraction.entities) for item in shown),
            located=sum(entity.box is not None for item in shown for entity in item.extraction.entities),
        )
    )


def fragment(
    extraction: Extraction,
    about: About,
    anchor: str,
    picture: str | None,
    heat: Mapping[int, str] | None = None,
    downloads: Mapping[str, str] | None = None,
) -> str:
    """One post's `<article>`, for a page with `article_style` that calls `bindArticle` of `article_script` on it.

    Args:
        extraction: the post's result.
        about: the profile and the gate's threshold.
        anchor: prefix of its elements' ids: letters, digits and dashes, unique in the page.
        picture: the address of its picture; None without a picture.
        heat: index of an entity in the result -> the address of its heat map.
        downloads: name of a form, such as "JSON" -> its address.
    """
    given = {"picture": picture, "heat": heat or {}, "downloads": downloads or {}}
    post = _post(anchor, PostView(extraction)) | given
    # Each pin's place is a style rule, since the page's policy forbids style attributes.
    style = environment().get_template("pins.css.j2").render(posts=[post])
    body = environment().get_template("article.html.j2").render(post=post, x=extraction, about=about)
    return f"<style>{style}</style>{body}"


def article_style() -> str:
    """The rules of `fragment`; the page defines the colours `--paper`, `--card`, `--ink` and so on."""
    article, hues = (environment().get_template(f"{name}.css.j2") for name in ("article", "hues"))
    return article.render(warmth=warmth()) + hues.render(hues=_hues())


def article_script() -> str:
    """The script of `bindArticle(article)`, which highlights all parts of the entity under the pointer."""
    return (_TEMPLATES / "article.js").read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """The templates; all their values are escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    environment.filters["notice_parts"] = lambda notice: split_code(notice_sentence(notice))
    return environment


def source_hash(source: str) -> str:
    """The `sha256-...` source expression by which the policy allows exactly this style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _hues() -> list[dict[str, str]]:
    return [{"hue": hue, "ink": ink_on(hue)} for hue in COLOURS]


def warmth() -> str:
    """The colours of heat maps, from cold to hot, as CSS."""
    colours, opacity = heat_map.palette()
    return ", ".join(
        f"rgb({r} {g} {b} / {alpha / 2.55:.0f}%)"
        for (r, g, b), alpha in zip(colours[::15].tolist(), opacity[::15].tolist(), strict=True)
    )


def _post(anchor: str, item: PostView) -> dict[str, Any]:
    extraction = item.extraction
    entities = [_entity(index, entity, extraction) for index, entity in enumerate(extraction.entities)]
    return {
        "anchor": anchor,
        "extraction": extraction,
        "segments": segments_of(extraction),
        "entities": entities,
        "pins": [entity for entity in entities if entity["box"]],
        "masked": any(entity["outline"] for entity in entities),
        "downloads": {},
        "picture": data_uri(item.picture) if item.picture else None,
        "shown": _size_on_page(extraction.image.width, extraction.image.height) if extraction.image else None,
        "heat": _heat(item),
        "steps": _steps(extraction),
        "json": json.dumps(extraction.model_dump(mode="json"), ensure_ascii=False, indent=1),
    }


def segments_of(extraction: Extraction) -> list[tuple[str, int | None]]:
    """The text cut at the mentions: (piece, entity index or None). A mention inside an earlier one is not marked."""
    pieces: list[tuple[str, int | None]] = []
    at = 0
    for index, entity in enumerate(extraction.entities):
        if entity.start < at:
            continue
        pieces.append((extraction.text[at : entity.start], None))
        pieces.append((extraction.text[entity.start : entity.end], index))
        at = entity.end
    pieces.append((extraction.text[at:], None))
    return [(printable(piece), index) for piece, index in pieces if piece]


def _entity(index: int, entity: Entity, extraction: Extraction) -> dict[str, Any]:
    best = sorted(entity.scores.items(), key=lambda pair: -pair[1])[:_TOP_TYPES]
    chosen = entity.fine_label or entity.label
    return {
        "index": index,
        "hue": index % len(COLOURS),
        "entity": entity,
        "kind": kind(entity, sure=True),
        "coarse": KIND_WORDS.get(entity.label, entity.label),
        "fine": None if entity.type_uncertain or entity.fine_label is None else kind(entity),
        "match": min(max(entity.match_score or 0.0, 0.0), 1.0),
        "presence": presence(entity),
        "scores": [(name.replace("_", " "), v) for name, v in best if v >= _LEAST_SHARE or name == chosen],
        "box": _box(entity, extraction),
        "outline": outline_of(entity.mask) if entity.mask else "",
        # The largest possible entropy of this many types, so that the track's full length means "no idea".
        "most_entropy": math.log(max(2, len(entity.scores))),
    }


def _box(entity: Entity, extraction: Extraction) -> dict[str, float] | None:
    """The box in pixels, and its corner as a share of the picture, for the HTML pin."""
    if entity.box is None or extraction.image is None:
        return None
    x1, y1, x2, y2 = entity.box
    size = extraction.image
    return {
        "x": x1,
        "y": y1,
        "width": x2 - x1,
        "height": y2 - y1,
        "left": 100 * x1 / size.width,
        "top": 100 * y1 / size.height,
    }


def outline_of(mask: Mask) -> str:
    """The mask as an SVG path in the picture's pixels, holes included (fill rule: even-odd)."""
    import cv2

    pixels = np.ascontiguousarray(mask.to_array(), dtype=np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    tolerance = max(0.5, max(mask.size) / 900)
    paths = []
    for contour in contours:
        corners = cv2.approxPolyDP(contour, tolerance, True).reshape(-1, 2)
        if len(corners) >= 3:
            paths.append("M" + "L".join(f"{x} {y}" for x, y in corners.tolist()) + "Z")
    return "".join(paths)


def shrink(picture: Image.Image, most: int = _LONGEST) -> Image.Image:
    """The picture at its largest size on the page; a tiny picture is enlarged."""
    size = _size_on_page(picture.width, picture.height, most)
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0) if size != picture.size else picture


def _size_on_page(width: int, height: int, most: int = _LONGEST) -> tuple[int, int]:
    longest = max(width, height)
    factor = min(max(longest, _SHORTEST), most) / longest
    return max(1, round(width * factor)), max(1, round(height * factor))


def data_uri(picture: Image.Image, most: int = _LONGEST) -> str:
    """The picture as a `data:` address, with its longer side reduced to `most` pixels."""
    buffer = io.BytesIO()
    shrink(picture, most).save(buffer, "JPEG", quality=86, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def png_uri(png: bytes) -> str:
    """A PNG as a `data:` address."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def heat_layer(blob: bytes, image: ImageRef) -> bytes:
    """A heat map as a PNG to lay over its picture."""
    buffer = io.BytesIO()
    heat_map.layer(heat_map.from_blob(blob), image.width, image.height).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _heat(item: PostView) -> dict[int, str]:
    """Every heat map as a `data:` address."""
    image = item.extraction.image
    layers = {index: heat_layer(blob, image) for index, blob in item.heat.items()} if image else {}
    return {index: png_uri(png) for index, png in layers.items()}


def _steps(extraction: Extraction) -> list[dict[str, Any]]:
    """The tools that ran, with their times and their share of the longest time."""
    longest = max(extraction.timings_ms.values(), default=0.0) or 1.0
    return [{"name": k, "ms": v, "share": 100 * v / longest} for k, v in extraction.timings_ms.items()]
