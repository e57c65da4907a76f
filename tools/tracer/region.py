"""The starter tracer: the best point inside the matched region."""

from collections.abc import Sequence
from typing import ClassVar

from namepin.tools.base import fingerprint
from namepin.tools.geometry import Rectangle
from namepin.tools.interfaces import Trace, TraceQuery, TraceRequest, Traces
from namepin.tools.media import Media
from namepin.tools.tracer.config import TracerConfig
from namepin.tools.types import ImageRef, Notice, Point
from namepin.tools.vision.ocr import bounds
from namepin.tools.vision.scene import Scene, scene_reader


class RegionTracer:
    """The middle of the face, or of the word nearest to the middle of the matched words."""

    name: ClassVar[str] = "tracer"
    version: ClassVar[int] = 2

    def __init__(self, config: TracerConfig) -> None:
        self.config = config
        self._scenes = scene_reader(config.scene)

    @property
    def fingerprint(self) -> str:
        """Covers the configuration and the model files of the OCR and the face detector."""
        return fingerprint(
            "region-tracer", self.version, self.config.model_dump(mode="json"), weights=self._scenes.weights
        )

    def run(self, requests: Sequence[TraceRequest], media: Media) -> list[Traces]:
        """One point per query; a query without a region gets none, and a notice W121.

        A matcher with regions gives none for a mention that it did not find, and a low `match.threshold` may accept
        such a mention. A matcher without regions needs another tracer.
        """
        return [self._traces(request, media) for request in requests]

    def _traces(self, request: TraceRequest, media: Media) -> Traces:
        printed = any(query.kind == "text" and query.region is not None for query in request.queries)
        scene = self._scenes.read(request.image, media, faces=False, words=printed)
        traces = tuple(Trace(peak=_peak(query, scene, request.image)) for query in request.queries)
        notices = tuple(_no_region(query) for query in request.queries if query.region is None)
        return Traces(traces=traces, notices=notices)


def _peak(query: TraceQuery, scene: Scene, picture: ImageRef) -> Point | None:
    if query.region is None:
        return None
    x, y = _middle(query.region)
    if query.kind == "text":
        words = [_middle(bounds([word.quad])) for line in scene.lines for word in line.words]
        inside = [word for word in words if _holds(query.region, word)]
        x, y = min(inside, key=lambda w: ((w[0] - x) ** 2 + (w[1] - y) ** 2, w), default=(x, y))
    return min(int(x), picture.width - 1), min(int(y), picture.height - 1)


def _no_region(query: TraceQuery) -> Notice:
    message = f"no place for {query.query.text!r}: the matcher gave no region"
    return Notice(code="W121", tool="tracer", message=message)


def _middle(box: Rectangle) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _holds(box: Rectangle, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]
