"""Converts all of Pillow's modes to RGB: 16-bit pictures are scaled and not clipped, transparency is flattened."""

from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:  # a worker process imports numpy only where it is needed
    import numpy as np
    from numpy.typing import NDArray

WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (118, 118, 118)
"""Grey of 18% luminance: a contrast of 4.6 to white as well as to black (WCAG 2.2)."""

_TRANSPARENT_SHARE = 0.05
"""Transparent share of a picture above which its shapes may be cut out; below, only its corners are transparent."""
_VANISHING_SHARE = 0.05
"""Share of the edges to transparency that may vanish against the background; more would lose content."""
_LIGHT, _DARK = 0.45, 0.06
"""Relative luminance above which a contrast to white, and below which one to black, is less than about 2.1."""


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture in RGB."""
    if picture.mode.startswith("I;16"):
        import numpy as np

        return Image.fromarray((np.asarray(picture) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):  # 32-bit integers and floats have no agreed white: stretch the values
        import numpy as np

        values = np.nan_to_num(np.asarray(picture, dtype=np.float32))
        span = max(float(np.ptp(values)), 1e-12)
        return Image.fromarray(((values - values.min()) * (255.0 / span)).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, background(rgba))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return picture.convert("RGB")


def background(rgba: Image.Image) -> tuple[int, int, int]:
    """The background for a transparent picture: white, unless the picture's shapes would vanish on it.

    White text on transparency gets black; a picture with white and with black shapes gets grey. Only visible pixels
    within two pixels of a fully transparent one count, because they are the edges of the shapes.
    """
    import numpy as np

    opacity = np.asarray(rgba.getchannel("A"))
    hole = opacity == 0
    if np.count_nonzero(hole) <= _TRANSPARENT_SHARE * hole.size:
        return WHITE
    edges = _grown(_grown(hole).T).T & ~hole
    if not edges.any():
        return WHITE
    weights = opacity[edges].astype(np.float64)
    light = _luminance(np.asarray(rgba)[edges][:, :3])
    vanishing_on_white = float(weights[light > _LIGHT].sum() / weights.sum())
    vanishing_on_black = float(weights[light < _DARK].sum() / weights.sum())
    if vanishing_on_white <= _VANISHING_SHARE:
        return WHITE
    return BLACK if vanishing_on_black <= _VANISHING_SHARE else GREY


def _grown(mask: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
    """The mask, extended by up to two rows above and below."""
    grown = mask.copy()
    for by in (1, 2):
        grown[by:] |= mask[:-by]
        grown[:-by] |= mask[by:]
    return grown


def _luminance(colours: "NDArray[np.uint8]") -> "NDArray[Any]":
    """Relative luminance of sRGB colours (WCAG 2.2), shape (n, 3) -> (n,)."""
    import numpy as np

    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear[colours] @ np.array([0.2126, 0.7152, 0.0722]))
