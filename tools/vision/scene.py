"""The scene of a picture: its people and its words, each sought once per picture, and only if somebody needs them."""

import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache

from PIL import Image

from namepin.tools.base import digest
from namepin.tools.caching.lru import LruCache
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


_LOCKS = 64
"""Two calls about one picture take the same of these locks; calls about two pictures, as good as never."""


class SceneReader:
    """Reads a scene and remembers it by the picture's sha256. Threads read several pictures at a time."""

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        self._scenes: LruCache[str, tuple[tuple[Person, ...] | None, tuple[Line, ...] | None]] = LruCache(config.keep)
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

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

    def warm(self) -> None:
        """Load all models, which the first picture would otherwise wait for."""
        blank = Image.new("RGB", (64, 64), "white")
        self._finder.find(blank)
        self._reader.warm()

    def read(self, ref: ImageRef, media: Media, *, faces: bool = True, words: bool = True) -> Scene:
        """The scene of the picture `ref`, whose pixels are in `media`.

        Args:
            ref: the picture.
            media: its pixels.
            faces: whether its people are needed; the result may lack them otherwise.
            words: whether its lines of text are needed; the result may lack them otherwise.
        """
        with self._locks[int(ref.sha256[:8], 16) % _LOCKS]:  # so that no picture is read twice
            people, lines = self._scenes.get(ref.sha256) or (None, None)
            if faces and people is None:
                people = self._finder.find(media.images[ref.sha256])
            if words and lines is None:
                lines = self._reader.read(media.images[ref.sha256])
            self._scenes.put(ref.sha256, (people, lines))
            return Scene(people or (), lines or ())


@lru_cache(maxsize=4)
def scene_reader(config: SceneConfig) -> SceneReader:
    """The one reader for this configuration, so that matcher, tracer and segmenter share models and answers."""
    return SceneReader(config)
