"""The scene of a picture, read once per picture: its people and its words."""

import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache

from cachetools import LRUCache

from namepin.tools.base import digest
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from namepin.tools.vision.config import SceneConfig
from namepin.tools.vision.faces import PeopleFinder, Person
from namepin.tools.vision.ocr import Line, TextReader


@dataclass(frozen=True)
class Scene:
    """People, the most prominent first, and lines of text, from top to bottom; upright pixels."""

    people: tuple[Person, ...]
    lines: tuple[Line, ...]


class SceneReader:
    """Reads a scene and remembers it by the picture's sha256. Safe to call from several threads."""

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        self._scenes: LRUCache[str, Scene] = LRUCache(config.keep)
        self._lock = threading.Lock()

    @cached_property
    def _reader(self) -> TextReader:
        return TextReader(self.config.ocr)

    @cached_property
    def _finder(self) -> PeopleFinder:
        return PeopleFinder(self.config.people)

    @cached_property
    def weights(self) -> str:
        """Sha256 over all model files."""
        return digest([self._reader.weights, self._finder.weights])

    def read(self, ref: ImageRef, media: Media) -> Scene:
        """The scene of the picture `ref`, whose pixels are in `media`."""
        with self._lock:  # also keeps two calls about one picture from doing the work twice
            if ref.sha256 not in self._scenes:
                image = media.images[ref.sha256]
                self._scenes[ref.sha256] = Scene(self._finder.find(image), self._reader.read(image))
            return self._scenes[ref.sha256]


@lru_cache(maxsize=4)
def scene_reader(config: SceneConfig) -> SceneReader:
    """The one reader for this configuration, so that matcher, tracer and segmenter share models and answers."""
    return SceneReader(config)
