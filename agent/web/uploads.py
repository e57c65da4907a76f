"""The page's uploads: each owner's pictures have a folder and a bound of their own, and names that are signed."""

import re
from pathlib import Path

from namepin.agent.stores.pictures import Attachment, Pictures, given_up
from namepin.agent.web.visitors import Visitor, Visitors
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import NOT_IN_TIME, TOO_SLOW
from namepin.tools.types import ImageRef

_GIVEN_UP = "0" * 64
"""In place of a picture's sha256: the upload was not decoded by its deadline."""


class Uploads:
    """The pictures that visitors have sent. One owner's uploads never push out another's.

    Args:
        visitors: signs the pictures' names.
        folder: the pictures of a server without tokens; with tokens, each owner has a folder in it.
        max_pixels: largest number of pixels per picture.
    """

    def __init__(self, visitors: Visitors, folder: Path, max_pixels: int) -> None:
        self.visitors, self.folder, self.max_pixels = visitors, folder, max_pixels

    def of(self, visitor: Visitor) -> Pictures:
        """The store of a visitor's owner."""
        folder = self.folder if self.visitors.access.open else self.folder / visitor.owner
        return Pictures(folder, max_pixels=self.max_pixels)

    async def keep(self, visitor: Visitor, data: bytes) -> tuple[str, Attachment]:
        """Store an upload. Returns its signed name, for `attached`; and what it is.

        Raises:
            NamepinError: as `Pictures.keep`, except E129: such a picture has a name that tells so.
        """
        kept = await self.of(visitor).aattach(data)
        return self.sign(visitor, kept.ref) if kept.ref else self.visitors.sign(visitor, _GIVEN_UP), kept

    async def attached(self, visitor: Visitor, signed: str) -> Attachment | None:
        """The picture that the visitor uploaded; None for no picture.

        Raises:
            NamepinError: E120 when it is not the visitor's, or no longer stored.
        """
        if not signed:
            return None
        sha256 = self.visitors.check(visitor, signed)
        if sha256 is None or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise NamepinError("E120", "the picture is no longer stored", mend="choose it again")
        try:
            if sha256 == _GIVEN_UP:
                raise NamepinError(NOT_IN_TIME, f"the picture {TOO_SLOW} its deadline")
            return Attachment((await self.of(visitor).afind(sha256)).ref)
        except NamepinError as error:
            return given_up(error)

    def sign(self, visitor: Visitor, ref: ImageRef) -> str:
        """The name of a stored picture that this visitor alone can use."""
        return self.visitors.sign(visitor, ref.sha256)
