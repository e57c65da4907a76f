"""Pixels and blobs, kept beside the requests: a request names a picture by sha256, a tool looks it up here."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image


@dataclass
class Media:
    """The pictures and blobs of one run.

    Attributes:
        images: sha256 of the file's bytes -> the upright RGB picture. Tools read, never modify.
        blobs: sha256 -> bytes; heat maps and other bulky results, which the state names by key only.
    """

    images: Mapping[str, Image.Image] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def put_blob(self, data: bytes) -> str:
        """Store bytes under their sha256 and return it."""
        key = hashlib.sha256(data).hexdigest()
        self.blobs[key] = data
        return key
