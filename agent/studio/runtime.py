"""Shared by the graphs while `langgraph dev` runs: the profiles, and the posts' pictures."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from cachetools import LRUCache
from PIL import Image
from pydantic import JsonValue

from namepin.agent.api import Namepin
from namepin.agent.checkpointer import data_folder
from namepin.agent.config.build import policy
from namepin.agent.config.settings import load_settings
from namepin.agent.posts import Ready, make_post
from namepin.agent.stores.pictures import Pictures, decode_base64
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.graphs.context import Context
from namepin.graphs.names import GraphName
from namepin.graphs.policy import GatePolicy
from namepin.tools.errors import NamepinError
from namepin.tools.media import Media
from namepin.tools.types import ImageRef


class Refused(ValueError):
    """A coded error for clients of LangGraph's server, which hides the text of errors that are not a ValueError."""


@contextmanager
def coded_errors() -> Iterator[None]:
    """Pass errors with their code on to the client."""
    try:
        yield
    except NamepinError as error:
        raise Refused(str(error)) from error


class KeptImages(Mapping[str, Image.Image]):
    """Pictures by sha256, read from their folder on demand; the last few stay decoded.

    So a run that continues from a checkpoint, even after a restart, has its picture.
    """

    def __init__(self, pictures: Pictures, most: int = 4) -> None:
        self._pictures = pictures
        self._open: LRUCache[str, Image.Image] = LRUCache(most)
        self._lock = threading.Lock()

    def __getitem__(self, sha256: str) -> Image.Image:
        """The picture.

        Raises:
            NamepinError: E120 when it is no longer stored.
        """
        with self._lock:
            if sha256 not in self._open:
                self._open[sha256] = self._pictures.find(sha256).image
            return self._open[sha256]

    def __iter__(self) -> Iterator[str]:
        """The decoded pictures."""
        return iter(tuple(self._open))

    def __len__(self) -> int:
        """The number of decoded pictures."""
        return len(self._open)


class StudioRuntime:
    """One profile with its tools, for both graphs; and the context of conversations.

    Raises:
        NamepinError: E20x for the profile that NAMEPIN_PROFILE names, E21x and E30x when a tool cannot start.
    """

    def __init__(self) -> None:
        settings = load_settings()
        self.chat = settings.chat
        self.pins = ProfilePool(list(dict.fromkeys([settings.profile, *settings.serve.profiles])))
        self.pictures = Pictures(data_folder() / "studio", max_pixels=settings.images.max_pixels)
        self._images = KeptImages(self.pictures)
        self._pins: dict[str, Namepin] = {
            graph: self.pins.get(settings.profile, {"graph": graph}) for graph in GraphName
        }
        for pin in self._pins.values():
            pin.calls  # noqa: B018  # built here, in a thread, rather than in a step

    def pin(self, graph: str) -> Namepin:
        """The profile with one of the graphs."""
        return self._pins[graph]

    def context(self, graph: str, gamma: float | None) -> Context:
        """The context of one run of a graph."""
        pin = self._pins[graph]
        decided = policy(pin.settings)
        if gamma is not None:
            gate = GatePolicy.model_validate(decided.gate.model_dump() | {"gamma": gamma})
            decided = decided.model_copy(update={"gate": gate})
        media, review = Media(images=self._images), pin.settings.review
        return Context(pin.calls, media, decided, pin.settings.requested, review=review)

    def ready(self, given: Any) -> tuple[Ready, ImageRef | None]:
        """Prepare a post given as JSON, `{"text" or "tokens", "id", "image": base64}`, and store its picture.

        Raises:
            NamepinError: E10x for the post, E12x for the picture.
        """
        row: dict[str, JsonValue] = dict(given) if isinstance(given, Mapping) else {}
        image = row.pop("image", None)
        prepared = self._pins["gem"].ready(make_post({"id": "post", **row}))
        if image is None:
            return prepared, None
        attached = self.pictures.attach(decode_base64(str(image)))
        return replace(prepared, notices=(*prepared.notices, *attached.notices)), attached.ref


@lru_cache(maxsize=1)
def studio_runtime() -> StudioRuntime:
    """The one runtime of this process; the first call builds the tools."""
    return StudioRuntime()
