"""The MCP server's memory per owner: posts by id, pictures by content; and the folder that it may read."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from namepin.agent.chat import answers
from namepin.agent.chat.state import MAX_SEEN, Answer, ChatContext, RememberedPost
from namepin.agent.config.settings import Settings
from namepin.agent.server.admission import Admission
from namepin.agent.server.reviews import Reviewed, Reviews
from namepin.agent.stores.pictures import Attachment, Pictures, decode_base64
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.tools.errors import NamepinError


class McpSessions:
    """Reads and remembers the posts of all owners. An owner never sees the posts of another owner.

    Args:
        settings: the server's profile, and its `[serve]` bounds.
        assignments: `--set` flags, for the other offered profiles.
        folder: folder of the pictures, with one subfolder per owner.
        images: the folder whose pictures a call may name by path; None for no folder.
    """

    def __init__(
        self, settings: Settings, assignments: Sequence[str], folder: Path, images: Path | None = None
    ) -> None:
        serve = settings.serve
        self.pins = ProfilePool(list(dict.fromkeys([settings.profile, *serve.profiles])), assignments)
        self.max_bytes, self._max_pixels = serve.max_body_mb * 2**20, settings.images.max_pixels
        self._folder, self._images = folder, images.resolve() if images else None
        self._turns = {name: Admission(serve.at_once, serve.waiting, serve.asking) for name in self.pins.profiles}
        self.reviews = Reviews(folder / ".reviews", self.pins, serve.max_reviews)  # owners' names have no dots
        self._seen: dict[str, dict[str, RememberedPost]] = {}
        self._counts: dict[str, int] = {}

    def context(self, owner: str) -> ChatContext:
        """Everything that the tools of one owner may use."""
        pictures = Pictures(self._folder / owner, max_pixels=self._max_pixels)
        return ChatContext(self.pins, pictures, self.pins.profiles[0])

    async def read(
        self, owner: str, text: str, attached: Attachment, profile: str | None, gamma: float | None
    ) -> Answer:
        """Read a post and remember it as the owner's `post-1`, `post-2`, ...; the last `MAX_SEEN` posts are kept.

        Raises:
            TooMany: the queue of posts is full; NamepinError as `answers.read`.
        """
        context = self.context(owner)
        profile = profile or context.profile
        overrides = {} if gamma is None else {"gate": {"gamma": gamma}}
        await asyncio.to_thread(self.pins.get, profile, overrides)  # raises errors before a number and a turn are taken
        self._counts[owner] = self._counts.get(owner, 0) + 1
        post_id = f"post-{self._counts[owner]}"
        async with self.turn(owner, profile):
            answer, seen = await answers.read(context, post_id, text, attached, profile, overrides)
        self.remember(owner, seen)
        return answer

    async def review(
        self, owner: str, text: str, attached: Attachment, profile: str | None, gamma: float | None
    ) -> Reviewed:
        """Read a post as `read` does, and stop at close decisions; a finished post is remembered.

        Raises:
            TooMany: the queue of posts or the store of reviews is full; NamepinError as `Reviews.begin`.
        """
        profile = profile or self.pins.profiles[0]
        await asyncio.to_thread(self.pins.get, profile)
        data = self.context(owner).pictures.read(attached.ref.sha256) if attached.ref else None
        row = {"id": f"post-{uuid.uuid4().hex[:12]}", "text": text}  # a review may outlive this process's numbering
        async with self.turn(owner, profile):
            begun = await self.reviews.begin(owner, row, data, profile, gamma, attached.notices)
        return self._review_state(owner, begun)

    async def decide(self, owner: str, review_id: str, chosen: Mapping[str, bool | str]) -> Reviewed:
        """Answer a review's questions; a finished post is remembered.

        Raises:
            TooMany: the queue of posts is full; NamepinError: E330 for an unknown review of this owner; otherwise as
                `Reviews.answer`.
        """
        waiting = self.reviews.get(owner, review_id)
        if waiting is not None:
            async with self.turn(owner, waiting.profile):
                now = await self.reviews.answer(owner, review_id, chosen)
            if now is not None:
                return self._review_state(owner, now)
        raise NamepinError("E330", "there is no such review here", mend="call review, and take its answer's id")

    def _review_state(self, owner: str, now: Reviewed) -> Reviewed:
        if now.extraction is not None:
            overrides = {} if now.gamma is None else {"gate": {"gamma": now.gamma}}
            self.remember(owner, answers.remember(now.extraction, now.profile, overrides))
        return now

    def turn(self, owner: str, profile: str) -> AbstractAsyncContextManager[object]:
        """A turn with an offered profile, for work with its tools; entering raises `TooMany` as `Admission`."""
        return self._turns[profile].turn(owner)

    def remember(self, owner: str, seen: RememberedPost) -> None:
        """Store a post or its changes."""
        mine = self._seen.setdefault(owner, {})
        mine[str(seen["extraction"]["id"])] = seen
        while len(mine) > MAX_SEEN:
            del mine[next(iter(mine))]

    def recall(self, owner: str, post_id: str) -> RememberedPost:
        """One of the owner's posts.

        Raises:
            NamepinError: E330 for an unknown id.
        """
        try:
            return self._seen.get(owner, {})[post_id]
        except KeyError:
            raise NamepinError(
                "E330", f"there is no post {post_id!r} here (any more)", mend="call extract, and take its answer's post"
            ) from None

    async def picture(self, owner: str, data: str | None, path: str | None) -> Attachment:
        """Check and store the picture of a call; a picture that is not decoded by its deadline becomes a warning.

        Args:
            owner: the caller.
            data: base64 of the file's bytes.
            path: a file within the folder that the server may read.

        Raises:
            NamepinError: E105 for both, E123 when it is not base64 or not a picture, E125 when it is too large, E128
                for a path outside the folder.
        """
        if data is not None and path is not None:
            raise NamepinError("E105", "give either image or image_path", mend="leave one of them out")
        if path is not None:
            return await self.context(owner).pictures.aattach(await asyncio.to_thread(self._file, path))
        if data is None:
            return Attachment()
        if len(data) > self.max_bytes * 4 / 3:
            raise self._too_large()
        return await self.context(owner).pictures.aattach(await asyncio.to_thread(decode_base64, data))

    def _file(self, path: str) -> bytes:
        # Missing files, paths outside and folders give the same answer: a caller learns nothing about the disk.
        refusal = NamepinError(
            "E128",
            "this server reads no such file",
            where="image_path",
            mend="name a picture within the folder of --images, or send it as base64",
        )
        if self._images is None:
            raise refusal
        try:
            file = (self._images / path).resolve()
            if not file.is_relative_to(self._images) or not file.is_file():
                raise refusal
            if file.stat().st_size > self.max_bytes:
                raise self._too_large()
            return file.read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            raise refusal from error

    def _too_large(self) -> NamepinError:
        return NamepinError("E125", f"the picture has more than {self.max_bytes // 2**20} MiB", mend="scale it down")
