"""Rectangles and pixel regions of the starter vision: overlap, scaling, and GrabCut grown from a face.

Rectangles are `(x1, y1, x2, y2)` in pixels, x2 and y2 exclusive.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from namepin.tools.geometry import Rectangle, Region

Pixels = NDArray[np.uint8]


def resize(image: Image.Image, side: int, *, enlarge: float = 1.0) -> tuple[Pixels, float]:
    """The picture with its long side at `side` pixels, enlarged at most `enlarge` times, and the factor used.

    Returns:
        RGB of shape (height, width, 3), at least one pixel either way; the factor from the picture to it.
    """
    scale = min(side / max(image.size), enlarge)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    if size == image.size:
        return np.asarray(image), 1.0
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)), scale


def turned_back(box: Rectangle, turn: NDArray[np.float64]) -> Rectangle:
    """A box found in a turned picture, as an upright box of the same size around the same point.

    Args:
        box: in pixels of the turned picture.
        turn: the 2x3 affine matrix that turned it.
    """
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    x, y = np.linalg.solve(turn[:, :2], centre - turn[:, 2])
    half_width, half_height = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    return float(x - half_width), float(y - half_height), float(x + half_width), float(y + half_height)


def person_region(image: Image.Image, face: Rectangle, others: Sequence[Rectangle] = (), *, side: int = 320) -> Region:
    """Grow a face to the whole person with GrabCut (Rother et al. 2004), seeded by an average body below the face.

    Args:
        image: the upright RGB picture.
        face: the face's square, in its pixels.
        others: further faces, which belong to other people.
        side: the long side at which GrabCut works; its time grows with the square.

    Returns:
        Boolean (height, width) at the picture's full size. Never empty: the face belongs to it.
    """
    small, scale = resize(image, side)
    trimap, prior = _trimap(small.shape[:2], _times(face, scale), [_times(other, scale) for other in others])
    grown = _grab(small, trimap)
    # Where GrabCut lost most of the body or spilled far over, the average body is the better guess.
    if not 0.35 <= (grown & prior).sum() / max(prior.sum(), 1) or grown.sum() > 2.2 * prior.sum():
        grown = prior
    x, y = (int(scale * (face[0] + face[2]) / 2), int(scale * (face[1] + face[3]) / 2))
    whole = _solid_piece(grown, min(x, small.shape[1] - 1), min(y, small.shape[0] - 1))
    result = _enlarge(whole, image.size)
    _fill_ellipse(result, *_face_ellipse(face))
    return result


def object_region(image: Image.Image, box: Rectangle, *, side: int = 320) -> Region:
    """What GrabCut takes for the object in a box; the whole box where it finds none.

    Returns:
        Boolean (height, width) at the picture's full size, nothing outside the box.
    """
    import cv2

    small, scale = resize(image, side)
    x1, y1, x2, y2 = (_px(value) for value in _times(box, scale))
    trimap: Pixels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    trimap[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = cv2.GC_PR_FGD
    full = _enlarge(_grab(small, trimap), image.size)
    left, top, right, bottom = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
    result: Region = np.zeros((image.height, image.width), bool)
    result[top:bottom, left:right] = full[top:bottom, left:right]
    if not result.any():
        result[top:bottom, left:right] = True
    return result


def _trimap(shape: tuple[int, ...], face: Rectangle, others: Sequence[Rectangle]) -> tuple[Pixels, Region]:
    """GrabCut's starting labels, and the average body alone, both (height, width)."""
    import cv2

    x1, y1, x2, y2 = face
    unit, centre = x2 - x1, (x1 + x2) / 2
    prior = _average_body(shape, face)
    theirs: Region = np.zeros(shape[:2], bool)
    columns = np.arange(shape[1]) + 0.5
    for other in others:
        # Where two bodies overlap, a pixel belongs to the axis that is nearer, counted in faces.
        their_unit, their_centre = other[2] - other[0], (other[0] + other[2]) / 2
        nearer = np.abs(columns - their_centre) / their_unit < np.abs(columns - centre) / unit
        theirs |= _average_body(shape, other) & nearer
    prior &= ~theirs

    trimap: Pixels = np.full(shape[:2], cv2.GC_BGD, np.uint8)
    rows = slice(_px(y1 - 0.9 * unit), _px(y2 + 6.5 * unit))
    trimap[rows, _px(centre - 2.2 * unit) : _px(centre + 2.2 * unit)] = cv2.GC_PR_BGD
    trimap[prior] = cv2.GC_PR_FGD
    trimap[theirs] = cv2.GC_BGD
    sure: Region = np.zeros(shape[:2], bool)
    _fill_ellipse(sure, *_face_ellipse(face))
    trimap[sure] = cv2.GC_FGD
    trimap[_px(y2) : _px(y2 + 1.2 * unit), _px(centre - 0.22 * unit) : _px(centre + 0.22 * unit)] = cv2.GC_FGD
    return trimap, prior | sure


def _average_body(shape: tuple[int, ...], face: Rectangle) -> Region:
    """An upright figure below a face square of one unit: head with hair 1.4 wide, shoulders 2.4, the whole 7.6 high.

    The picture's edge cuts what does not fit.
    """
    import cv2

    x1, y1, x2, y2 = face
    unit, centre = x2 - x1, (x1 + x2) / 2
    body: Region = np.zeros(shape[:2], bool)
    _fill_ellipse(body, centre, y1 + 0.42 * unit, 0.68 * unit, 0.86 * unit)
    outline = [(0.3, -0.1), (0.42, 0.12), (1.2, 0.75), (1.25, 3.2), (0.8, 6.2)]  # half width, below the chin
    right = [(centre + w * unit, y2 + y * unit) for w, y in outline]
    left = [(centre - w * unit, y2 + y * unit) for w, y in reversed(outline)]
    torso = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(torso, [np.rint(right + left).astype(np.int32)], 1)
    body |= torso.astype(bool)
    return body


def _grab(small: Pixels, trimap: Pixels) -> Region:
    """Five rounds of GrabCut from the given labels; the prior alone where there is no background to learn from."""
    import cv2

    background = np.isin(trimap, (cv2.GC_BGD, cv2.GC_PR_BGD))
    if background.sum() < 32 or (~background).sum() < 32:
        return ~background
    cv2.setRNGSeed(0)  # its first colour clusters are drawn at random; the seed is per thread
    labels, models = trimap.copy(), (np.zeros((1, 65)), np.zeros((1, 65)))
    no_rectangle = (0, 0, 1, 1)
    cv2.grabCut(np.ascontiguousarray(small[..., ::-1]), labels, no_rectangle, *models, 5, cv2.GC_INIT_WITH_MASK)
    grown: Region = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return grown


def _solid_piece(region: Region, x: int, y: int) -> Region:
    """The piece that holds (x, y), smoothed, with its holes filled."""
    import cv2
    from scipy import ndimage

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    smooth = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    pieces, _ = ndimage.label(smooth)
    piece = pieces == pieces[y, x] if pieces[y, x] else region
    filled: Region = ndimage.binary_fill_holes(piece)
    return filled


def _enlarge(region: Region, size: tuple[int, int]) -> Region:
    """The region at (width, height) `size`, its edge smooth rather than in steps."""
    import cv2

    shades = cv2.resize(region.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_LINEAR)
    result: Region = shades >= 128
    return result


def polygon_region(size: tuple[int, int], polygons: Sequence[Sequence[tuple[float, float]]]) -> Region:
    """Boolean (height, width) of the pixels inside any of the polygons; `size` is (width, height)."""
    import cv2

    canvas = np.zeros((size[1], size[0]), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], 1)
    result: Region = canvas.astype(bool)
    return result


def _face_ellipse(face: Rectangle) -> tuple[float, float, float, float]:
    """Centre and half axes of the skin inside a face square, which is wider than the face itself."""
    x1, y1, x2, y2 = face
    return (x1 + x2) / 2, (y1 + y2) / 2 + 0.03 * (y2 - y1), 0.36 * (x2 - x1), 0.46 * (y2 - y1)


def _fill_ellipse(region: Region, x: float, y: float, half_width: float, half_height: float) -> None:
    half_width, half_height = max(half_width, 0.5), max(half_height, 0.5)
    rows = slice(_px(y - half_height - 1), _px(y + half_height + 1))
    columns = slice(_px(x - half_width - 1), _px(x + half_width + 1))
    part = region[rows, columns]
    ys, xs = np.ogrid[rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]]
    part |= ((xs + 0.5 - x) / half_width) ** 2 + ((ys + 0.5 - y) / half_height) ** 2 <= 1


def _times(box: Rectangle, factor: float) -> Rectangle:
    return box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor


def _px(value: float) -> int:
    """A slice bound: never negative, because Python would count it from the end."""
    return max(0, round(value))
