"""The annotated picture: boxes, translucent masks, labels beside them, and a legend of all entities below."""

from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter

from namepin.agent.render.fonts import Font, fonts, lettering
from namepin.agent.render.layout import place_label
from namepin.agent.render.view import colour, ink_on, kind
from namepin.tools.geometry import Rectangle
from namepin.tools.types import Entity, Extraction

LONGEST = (640, 1600)
"""Bounds on the drawn picture's longer side in pixels; pictures are enlarged or reduced, so labels stay readable."""

_MIN_WIDTH = 420
_LEGEND_ROWS = 12
_PAPER, _INK, _FAINT = "#FBFAF8", "#1B1D21", "#6A6F78"


def annotate(image: Image.Image, extraction: Extraction) -> Image.Image:
    """Draw an extraction onto (a copy of) its upright picture.

    Labels may lie in a margin above or below the picture, which is added only if needed.
    """
    scale = _scale(image)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    # Reduced before any other copy, since the picture may have 64 megapixels.
    picture = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0).convert("RGB")
    pinned = [(n, e) for n, e in enumerate(extraction.entities) if e.box is not None]
    for number, entity in pinned:
        picture = _tint(picture, entity, colour(number))
    letters = max(14, round(min(max(size) * 0.022, max(min(size), _MIN_WIDTH) * 0.05)))
    board = _Board(picture, letters)
    for number, entity in pinned:
        board.box(entity, _scale_box(entity, scale), colour(number))
    board.labels([(n, e, _scale_box(e, scale)) for n, e in pinned])
    return board.compose(extraction)


def _scale(image: Image.Image) -> float:
    longest = max(image.size)
    return min(max(longest, LONGEST[0]), LONGEST[1]) / longest


def _scale_box(entity: Entity, scale: float) -> Rectangle:
    assert entity.box is not None
    x1, y1, x2, y2 = (value * scale for value in entity.box)
    return x1, y1, x2, y2


def _tint(picture: Image.Image, entity: Entity, hue: str) -> Image.Image:
    """The picture with the entity's mask over it: a translucent fill and a solid outline."""
    if entity.mask is None:
        return picture
    mask = Image.fromarray(entity.mask.to_array()).convert("L").resize(picture.size, Image.Resampling.BILINEAR)
    mask = mask.point(lambda value: 255 if value >= 128 else 0)
    outline = ImageChops.subtract(mask, mask.filter(ImageFilter.MinFilter(5)))
    veil = ImageChops.lighter(mask.point(lambda value: value * 38 // 100), outline)
    return Image.composite(Image.new("RGB", picture.size, hue), picture, veil)


class _Board:
    """The canvas: the picture with room for labels above and below, and beside a narrow picture."""

    def __init__(self, picture: Image.Image, letters: int) -> None:
        self.letters, self.pad = letters, max(4, letters // 3)
        self.line = max(2, round(letters / 6))
        self.height = letters + 2 * self.pad
        width = max(picture.width, _MIN_WIDTH)
        self.left, self.top = (width - picture.width) // 2, self.height + 3 * self.line
        self.bottom = self.top + picture.height
        self.canvas = Image.new("RGB", (width, self.bottom + self.top), _PAPER)
        self.canvas.paste(picture, (self.left, self.top))
        self.draw = ImageDraw.Draw(self.canvas)
        self.placed: list[Rectangle] = []

    def _at(self, rect: Rectangle) -> Rectangle:
        return rect[0] + self.left, rect[1] + self.top, rect[2] + self.left, rect[3] + self.top

    def box(self, entity: Entity, rect: Rectangle, hue: str) -> None:
        """A frame with a dark rim, so that it is visible on any background; dashed for an ambiguous match."""
        x1, y1, x2, y2 = self._at(rect)
        x2, y2 = max(x2 - 1, x1), max(y2 - 1, y1)
        rim, width = (20, 20, 20), self.line
        self.draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=rim, width=width + 2)
        if not entity.ambiguous:
            self.draw.rectangle((x1, y1, x2, y2), outline=hue, width=width)
            return
        dash = 4 * width
        for start in range(round(x1), round(x2), 2 * dash):
            for y in (y1, y2 - width + 1):
                self.draw.rectangle((start, y, min(start + dash, x2), y + width - 1), fill=hue)
        for start in range(round(y1), round(y2), 2 * dash):
            for x in (x1, x2 - width + 1):
                self.draw.rectangle((x, start, x + width - 1, min(start + dash, y2)), fill=hue)

    def labels(self, pinned: list[tuple[int, Entity, Rectangle]]) -> None:
        """One label per entity, placed away from the boxes and from other labels."""
        bounds = (0.0, 0.0, float(self.canvas.width), float(self.canvas.height))
        boxes = {number: self._at(rect) for number, _, rect in pinned}
        for number, entity, _ in pinned:
            hue = colour(number)
            text, font = lettering(entity.text, self.letters)
            text = _fit(f"{number + 1} {text}".strip(), font, self.canvas.width - 4 * self.pad)
            size = font.getlength(text) + 2 * self.pad, float(self.height)
            others = [box for other, box in boxes.items() if other != number]
            rect = place_label(size, boxes[number], others, self.placed, bounds, self.line)
            self.placed.append(rect)
            self.draw.rounded_rectangle(rect, radius=self.pad, fill=hue, outline=(20, 20, 20), width=1)
            middle = (rect[1] + rect[3]) / 2
            self.draw.text((rect[0] + self.pad, middle), text, font=font, fill=ink_on(hue), anchor="lm")

    def compose(self, extraction: Extraction) -> Image.Image:
        """The canvas without unused margins, and the legend below it."""
        top = min([self.top, *(max(0, int(rect[1]) - self.line) for rect in self.placed)])
        bottom = max([self.bottom, *(min(self.canvas.height, int(rect[3]) + self.line) for rect in self.placed)])
        picture = self.canvas.crop((0, top, self.canvas.width, bottom))
        legend = _legend(extraction, self.canvas.width, self.letters)
        whole = Image.new("RGB", (picture.width, picture.height + legend.height), _PAPER)
        whole.paste(picture, (0, 0))
        whole.paste(legend, (0, picture.height))
        return whole


def _legend(extraction: Extraction, width: int, letters: int) -> Image.Image:
    """A row for each entity: number, name, type, whether it is in the picture, and below that by what, if it is."""
    rows = extraction.entities[:_LEGEND_ROWS]
    more = len(extraction.entities) - len(rows)
    step, pad = round(letters * 1.7), letters
    tops = [pad]
    for entity in rows:
        tops.append(tops[-1] + step + round(letters * 1.3) * bool(_reason(entity)))
    end = tops[-1] if rows and not more else tops[-1] + step
    image = Image.new("RGB", (width, end - (step - letters) + pad), _PAPER)
    draw = ImageDraw.Draw(image)
    plain = fonts(letters, bold=False)[0]
    for row, entity in enumerate(rows):
        middle = tops[row] + letters / 2
        number, hue = str(row + 1), colour(row)
        radius = letters * 0.72
        centre = pad + radius
        draw.ellipse((centre - radius, middle - radius, centre + radius, middle + radius), fill=hue)
        small = fonts(max(9, round(letters * 0.8)))[0]
        draw.text((centre, middle), number, font=small, fill=ink_on(hue), anchor="mm")
        x = centre + radius + pad * 0.6
        reason, font = lettering(_reason(entity), max(9, round(letters * 0.85)), limit=200, bold=False)
        draw.text((x, middle + letters * 1.4), _fit(reason, font, width - x - pad), font=font, fill=_FAINT, anchor="lm")
        text, font = lettering(entity.text, letters)
        text = _fit(text, font, (width - x - pad) * 0.55)
        draw.text((x, middle), text, font=font, fill=_INK, anchor="lm")
        x += font.getlength(text) + pad * 0.6
        note = _fit(f"{kind(entity)}{', unsure' * entity.type_uncertain} · {_verdict(entity)}", plain, width - x - pad)
        draw.text((x, middle), note, font=plain, fill=ImageColor.getrgb(_FAINT), anchor="lm")
    if not rows or more:
        note = f"and {more} more" if more else "no names found"
        draw.text((pad, tops[-1] + letters / 2), note, font=plain, fill=_FAINT, anchor="lm")
    return image


def _verdict(entity: Entity) -> str:
    if entity.cannot_tell:
        return "cannot tell"
    if entity.groundable is None:
        return "not looked for"
    if not entity.groundable:
        return "not in the picture"
    verdict = "in the picture" + (f" {entity.match_score:.2f}" if entity.match_score is not None else "")
    return f"{verdict}, ambiguous" if entity.ambiguous else verdict


def _reason(entity: Entity) -> str:
    """What of the picture speaks for the entity, where it is said to be there."""
    return (entity.evidence if entity.groundable else None) or ""


def _fit(text: str, font: Font, width: float) -> str:
    """`text`, truncated with an ellipsis to `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
