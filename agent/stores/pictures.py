"""The pictures of conversations: files named by their content's sha256, in a user's folder of bounded size."""

import asyncio
import base64
import binascii
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from namepin.agent.posts import picture_missing
from namepin.agent.stores.files import FileStore
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import NOT_IN_TIME, LoadedImage, check_image, load_image
from namepin.tools.llm.permission import THREADS
from namepin.tools.types import ImageRef, Notice


def decode_base64(data: str) -> bytes:
    """A picture's file from its base64.

    Raises:
        NamepinError: E123 when it is not base64.
    """
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NamepinError("E123", "the picture is not base64", mend="encode the file's bytes as base64") from error


_costly = ThreadPoolExecutor(16, f"{THREADS}-pictures")
"""Threads that wait for decoder processes, so that the threads for other work never wait."""


async def load_apart(data: bytes, max_pixels: int) -> LoadedImage:
    """`load_image` in a thread; slow pictures have separate threads."""
    cheap = await asyncio.to_thread(check_image, data, max_pixels=max_pixels)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None if cheap else _costly, partial(load_image, data, max_pixels=max_pixels))


@dataclass(frozen=True)
class Attachment:
    """The picture of a post to read: a stored picture, or the warnings of a post whose picture was given up."""

    ref: ImageRef | None = None
    notices: tuple[Notice, ...] = ()


def given_up(error: NamepinError) -> Attachment:
    """What is left of a picture that was not decoded by its deadline: the warning W101.

    Raises:
        NamepinError: `error`, if it is not E129.
    """
    if error.code != NOT_IN_TIME:
        raise error
    return Attachment(notices=(picture_missing(error),))


class Pictures:
    """Stores uploads unchanged as bytes. They are never opened by name or type, only read by the checked decoder.

    Args:
        folder: created with the first picture.
        max_bytes: largest total size of the pictures; the least recently used pictures are deleted first.
        max_pixels: largest number of pixels per picture, checked before decoding.
    """

    def __init__(self, folder: Path, max_bytes: int = 2**30, max_pixels: int = 64_000_000) -> None:
        self.folder, self.max_pixels = folder, max_pixels
        self._kept = FileStore(folder, max_bytes)

    def keep(self, data: bytes) -> ImageRef:
        """Check a picture by decoding it, and store it.

        Raises:
            NamepinError: E12x when it is not a picture, or too large; E500 when it cannot be written.
        """
        ref = load_image(data, max_pixels=self.max_pixels).ref
        self._kept.put(ref.sha256, data)
        return ref

    async def akeep(self, data: bytes) -> ImageRef:
        """As `keep`, without blocking the event loop or its threads."""
        ref = (await load_apart(data, self.max_pixels)).ref
        await asyncio.to_thread(self._kept.put, ref.sha256, data)
        return ref

    def attach(self, data: bytes) -> Attachment:
        """As `keep`; a picture that is not decoded by its deadline (E129) becomes a warning."""
        try:
            return Attachment(self.keep(data))
        except NamepinError as error:
            return given_up(error)

    async def aattach(self, data: bytes) -> Attachment:
        """As `attach`, without blocking the event loop or its threads."""
        try:
            return Attachment(await self.akeep(data))
        except NamepinError as error:
            return given_up(error)

    def open(self, ref: ImageRef) -> LoadedImage:
        """A stored picture; errors as `find`."""
        return self.find(ref.sha256)

    async def aopen(self, ref: ImageRef) -> LoadedImage:
        """As `open`, without blocking the event loop or its threads."""
        return await self.afind(ref.sha256)

    async def open_attached(self, attached: Attachment) -> tuple[LoadedImage | None, tuple[Notice, ...]]:
        """An attachment's picture and warnings; a picture that is not decoded by its deadline becomes a warning.

        Raises:
            NamepinError: E120 when it is no longer stored, or has changed.
        """
        if attached.ref is None:
            return None, attached.notices
        try:
            return await self.aopen(attached.ref), attached.notices
        except NamepinError as error:
            return None, (*attached.notices, *given_up(error).notices)

    async def afind(self, sha256: str) -> LoadedImage:
        """As `find`, without blocking the event loop or its threads."""
        return await load_apart(await asyncio.to_thread(self.read, sha256), self.max_pixels)

    def find(self, sha256: str) -> LoadedImage:
        """A stored picture by its content alone.

        Raises:
            NamepinError: E120 when it is no longer stored, or has changed.
        """
        return load_image(self.read(sha256), max_pixels=self.max_pixels)

    def read(self, sha256: str) -> bytes:
        """A stored picture's original file; errors as `find`."""
        data = self._kept.get(sha256)
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise self._gone()
        return data

    def _gone(self) -> NamepinError:
        return NamepinError("E120", "the picture of that post is no longer stored", mend="send the post again")
