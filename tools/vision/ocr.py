"""Read the words in a picture with RapidOCR and the models bundled in its wheel (PP-OCRv6 small, ONNX)."""

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from namepin.tools.base import digest, file_sha256
from namepin.tools.errors import Exit, NamepinError, install_command
from namepin.tools.geometry import Rectangle
from namepin.tools.vision.config import OcrConfig
from namepin.tools.vision.grabcut import resize

Quad = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""Corners of a word or line in reading direction: top left, top right, bottom right, bottom left."""

Span = tuple[float, float]
"""Start and end, as fractions of a line's length in reading direction."""

_END_MARGIN = 0.1
"""Line heights that a line is widened by at either end: the detector's box cuts slanted and round letters."""

_AT_ONCE = max(1, os.cpu_count() or 1)
"""Number of pictures that are read at a time; further ones wait, since each takes up to 200 MB."""

_MODELS = {"Det": "PP-OCRv6_det_small.onnx", "Rec": "PP-OCRv6_rec_small.onnx"}


@dataclass(frozen=True)
class Word:
    """A word as read, in pixels of the upright picture."""

    text: str
    quad: Quad


@dataclass(frozen=True)
class Line:
    """A line of text: its words from left to right, and how sure the recogniser is of it (0 to 1)."""

    words: tuple[Word, ...]
    quad: Quad
    confidence: float

    @property
    def text(self) -> str:
        """The words, joined by blanks."""
        return " ".join(word.text for word in self.words)


def bounds(quads: Sequence[Quad]) -> Rectangle:
    """The upright rectangle around one or more quads."""
    corners = np.array(quads).reshape(-1, 2)
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)


class TextReader:
    """RapidOCR behind one method. Safe to call from several threads; never downloads anything."""

    def __init__(self, config: OcrConfig) -> None:
        import rapidocr

        self.config = config
        folder = Path(rapidocr.__file__).parent / "models"
        self._files = {part: folder / name for part, name in _MODELS.items()}
        for file in self._files.values():
            if not file.is_file():
                mend = install_command("rapidocr>=3.10,<4", "--force-reinstall")
                raise NamepinError(
                    "E215", f"RapidOCR came without {file.name}", where="ocr", mend=mend, exit_code=Exit.UNREACHABLE
                )
        logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
        self._engine: Any = rapidocr.RapidOCR(params=self._parameters())
        self._loading = threading.Lock()
        self._loaded = False
        # The engine keeps nothing but options between calls, and no call gives any.
        self._turns = threading.Semaphore(_AT_ONCE)

    def _parameters(self) -> dict[str, Any]:
        """Model paths are given, so that RapidOCR does not look for, and then download, its own choice."""
        paths = {f"{part}.model_path": str(file) for part, file in self._files.items()}
        return paths | {
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.return_word_box": True,
            "Global.text_score": 0.0,
            "Global.min_side_len": 1,
            "Global.max_side_len": 2 * self.config.side,
            # The default enlarges the short side to 736, which makes a panorama tens of megapixels.
            "Det.limit_type": "max",
            "Det.limit_side_len": self.config.sought,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }

    def _load(self) -> None:
        """Load the models once, in sessions of our own: RapidOCR's settings do not reach their threads."""
        if self._loaded:
            return
        for step, part in ((self._engine._load_det_model(), "Det"), (self._engine._load_rec_model(), "Rec")):
            step.session.session = self._session(self._files[part])
        self._loaded = True

    def _session(self, file: Path) -> Any:
        """A model whose idle threads sleep: by default they spin, which takes a quarter of the OCR's core time."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = False  # as RapidOCR has it: the memory of large pictures is given back
        options.intra_op_num_threads = min(self.config.threads, os.cpu_count() or 1)
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    @cached_property
    def weights(self) -> str:
        """Sha256 over the model files."""
        return digest({part: file_sha256(file) for part, file in self._files.items()})

    def warm(self) -> None:
        """Run both models once on a drawn word, so that the first picture does not wait for them."""
        picture = Image.new("RGB", (320, 96), "white")
        ImageDraw.Draw(picture).text((20, 20), "WARM UP", font=ImageFont.load_default(48), fill="black")
        self.read(picture)

    def read(self, image: Image.Image) -> tuple[Line, ...]:
        """The lines of text in an upright RGB picture, from top to bottom."""
        side = min(self.config.side, max(self.config.enlarged, *image.size))
        small, scale = resize(image, side, enlarge=2.0)
        if min(small.shape[:2]) < 8:
            return ()
        with self._loading:
            self._load()
        with self._turns:
            answer = self._engine(np.ascontiguousarray(small[..., ::-1]))
        if getattr(answer, "boxes", None) is None or not answer.txts:
            return ()
        words = answer.word_results if len(answer.word_results or ()) == len(answer.txts) else [()] * len(answer.txts)
        lines = [
            _line(text, box, float(confidence), parts, 1 / scale)
            for text, box, confidence, parts in zip(answer.txts, answer.boxes, answer.scores, words, strict=True)
            if confidence >= self.config.confidence and text.strip()
        ]
        return tuple(sorted(lines, key=lambda line: (bounds([line.quad])[1], bounds([line.quad])[0])))


def _line(text: str, box: Any, confidence: float, parts: Sequence[Any], factor: float) -> Line:
    quad = part_of(_quad(box, factor), -_END_MARGIN * _slenderness(box), 1 + _END_MARGIN * _slenderness(box))
    placed = [
        (part[0], _span(_quad(part[2], factor), quad)) for part in parts if part[0].strip() and part[2] is not None
    ]
    if "".join(word for word, _ in placed) != "".join(text.split()):  # word boxes are missing or incomplete
        placed = []
    spans = _word_spans(text.split(), placed) if placed else _evenly_spaced(text)
    spans = _widen(spans, most=0.6 * _slenderness(quad))
    words = [Word(word, part_of(quad, *span)) for word, span in zip(text.split(), spans, strict=True)]
    return Line(tuple(words), quad, confidence)


def _quad(points: Any, factor: float) -> Quad:
    corners = [(float(x) * factor, float(y) * factor) for x, y in points]
    return corners[0], corners[1], corners[2], corners[3]


def _slenderness(points: Any) -> float:
    """The height of a quad divided by its length in reading direction."""
    top_left, top_right, _, bottom_left = (np.array(corner, float) for corner in points)
    return float(np.linalg.norm(bottom_left - top_left) / max(float(np.linalg.norm(top_right - top_left)), 1e-6))


def _span(part: Quad, line: Quad) -> Span:
    """Where a part of a line starts and ends, as fractions of the line's length."""
    origin, along = np.array(line[0]), np.array(line[1]) - np.array(line[0])
    at = (np.array(part) - origin) @ along / max(float(along @ along), 1e-6)
    return float(at.min()), float(at.max())


def _word_spans(words: Sequence[str], parts: Sequence[tuple[str, Span]]) -> list[Span]:
    """The span of each word, of parts that need not end where words do: the recogniser cuts `WIMBLEDON` after `WIM`."""
    starts, ends = [], []
    for text, (start, end) in parts:
        width = (end - start) / len(text)
        starts += [start + i * width for i in range(len(text))]
        ends += [start + (i + 1) * width for i in range(len(text))]
    spans, at = [], 0
    for word in words:
        spans.append((starts[at], ends[at + len(word) - 1]))
        at += len(word)
    return spans


def _evenly_spaced(text: str) -> list[Span]:
    """The spans of the line's words, every character taken to be equally wide."""
    spans, at = [], 0
    for word in text.split():
        start = text.index(word, at)
        at = start + len(word)
        spans.append((start / len(text), at / len(text)))
    return spans


def _widen(spans: Sequence[Span], *, most: float) -> list[Span]:
    """Let the first word start with the line, the last one end with it, and the others meet halfway between.

    The recogniser places every character of a line as if all were equally wide, so a word of wide letters loses one at
    its start or end. Between two words each gains at most `most`.
    """
    widened = []
    for i, (start, end) in enumerate(spans):
        first, last = i == 0, i == len(spans) - 1
        left = 0.0 if first else max((spans[i - 1][1] + start) / 2, start - most)
        right = 1.0 if last else min((end + spans[i + 1][0]) / 2, end + most)
        widened.append((left, right))
    return widened


def part_of(quad: Quad, start: float, end: float) -> Quad:
    """The part of a quad between two fractions of its length in reading direction."""
    top_left, top_right, bottom_right, bottom_left = (np.array(corner) for corner in quad)
    top, bottom = top_right - top_left, bottom_right - bottom_left
    corners = (top_left + start * top, top_left + end * top, bottom_left + end * bottom, bottom_left + start * bottom)
    a, b, c, d = ((float(x), float(y)) for x, y in corners)
    return a, b, c, d
