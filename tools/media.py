"""Pixels and blobs, stored beside the requests. A request names a picture by sha256; the tool looks it up here."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.types import ImageRef


@dataclass
class Media:
    """The pictures and blobs of one run.

    Attributes:
        images: sha256 of the file's bytes -> the upright RGB picture. Tools never modify it.
        blobs: sha256 -> bytes: heat maps and other large results. The state holds only their keys.
    """

    images: Mapping[str, Image.Image] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def put_blob(self, data: bytes) -> str:
        """Store bytes under their sha256 and return it."""
        key = hashlib.sha256(data).hexdigest()
        self.blobs[key] = data
        return key


def picture(image: ImageRef, media: Media) -> Image.Image:
    """The upright pixels of `image`.

    Raises:
        NamepinError: E120 when `media` does not hold them.
    """
    found = media.images.get(image.sha256)
    if found is None:
        raise NamepinError(
            "E120", "the picture's pixels are not at hand", where=image.sha256[:12], mend="load it first"
        )
    return found
