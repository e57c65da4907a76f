"""Reviews: posts whose close decisions wait for their owner, even across a restart of the server.

A review is a folder `reviews/OWNER/ID` with `review.json` (shown to its owner), `post.json` and the picture. The
conversations' checkpointer stores the state of its run. Answers that are useful for training are rows in `rows/OWNER`.
"""

import asyncio
import re
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

from namepin.agent.api import Namepin
from namepin.agent.checkpointer import open_saver
from namepin.agent.posts import Ready, make_post
from namepin.agent.review import Review
from namepin.agent.server.access import TooMany
from namepin.agent.stores.heat_maps import HeatMaps
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.agent.stores.training_rows import save_rows
from namepin.graphs.review_nodes import Question
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write
from namepin.tools.images.load import NOT_IN_TIME, TOO_SLOW
from namepin.tools.jsonl import dump_json, parse_json
from namepin.tools.types import Extraction, Frozen, Notice

STATE, POST, PICTURE = "review.json", "post.json", "picture"
_MOST_ROWS = 10_000
"""Largest number of stored rows per owner."""


class Answered(Frozen):
    """A question and its owner's choice."""

    question: Question
    answer: str


class Reviewed(Frozen):
    """One review, as shown to its owner.

    Attributes:
        id: the review's name.
        profile: the profile that reads the post.
        gamma: another threshold of the gate, if requested.
        state: `waiting` for answers, or `done`.
        questions: the open questions, to be answered together.
        answered: the decisions so far.
        extraction: the result of a finished review.
        source: the reviewed result of a conversation; empty for other posts.
    """

    id: str
    profile: str
    gamma: float | None = None
    state: Literal["waiting", "done"] = "waiting"
    questions: tuple[Question, ...] = ()
    answered: tuple[Answered, ...] = ()
    extraction: Extraction | None = None
    source: str = ""


class Reviews:
    """All reviews below a data folder.

    Args:
        folder: the data folder, which also holds conversations.
        pins: the profiles.
        most: largest number of stored reviews per owner.
        heat: store of the results' heat maps; None if they are never drawn.
    """

    def __init__(self, folder: Path, pins: ProfilePool, most: int, heat: HeatMaps | None = None) -> None:
        self.folder, self.pins, self.most, self.heat = folder, pins, most, heat
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def begin(
        self,
        owner: str,
        row: Mapping[str, Any],
        picture: bytes | None,
        profile: str,
        gamma: float | None = None,
        notices: Sequence[Notice] = (),
        source: str = "",
    ) -> Reviewed:
        """Read a post, and stop at close decisions.

        Args:
            owner: who reviews it.
            row: the post.
            picture: its picture's file; a picture that is not decoded by its deadline is given up (W101).
            profile: the profile to read it with.
            gamma: another threshold of the gate.
            notices: warnings of the post's result, such as W101 of a picture that was given up before.
            source: the reviewed result of a conversation.

        Raises:
            TooMany: the owner has too many reviews.
            NamepinError: E10x, E12x for the post, E200 for the profile; as `Namepin.areview`.
        """
        stored = self.list(owner)
        if source and len(stored) >= self.most:
            # The page's results are in its conversation, so finished reviews make room.
            done = [one for one in stored if one.source and one.state == "done"]
            for one in done[: len(stored) - self.most + 1]:
                await self.delete(owner, one.id)
                stored.remove(one)
        if len(stored) >= self.most:
            raise TooMany(f"{self.most} reviews are stored already: delete one", 60)
        begun = Reviewed(id=uuid.uuid4().hex, profile=profile, gamma=gamma, source=source)
        folder = self.folder / "reviews" / owner / begun.id
        try:
            await asyncio.to_thread(_write_post, folder, row, picture)
            return await self._go_on(owner, begun, None, notices)
        except BaseException:
            await self._remove(owner, begun.id)
            raise

    async def answer(self, owner: str, review_id: str, answers: Mapping[str, Any]) -> Reviewed | None:
        """Answer the questions and run on until the next questions or the end; None for an unknown review of the owner.

        Raises:
            NamepinError: E333 for answers that do not fit, E129 when the picture is not decoded by its deadline this
                time; the review still waits. E334 when the server now has other tools or settings.
        """
        async with self._lock(review_id):
            review = self.get(owner, review_id)
            if review is None:
                return None
            if review.state == "done":
                raise NamepinError("E333", "there is no open question", mend="the review is done: take its extraction")
            return await self._go_on(owner, review, answers)

    def get(self, owner: str, review_id: str) -> Reviewed | None:
        """An owner's review; None for a missing review or another owner's review."""
        folder = self._folder(owner, review_id)
        return _read(folder) if folder else None

    def list(self, owner: str) -> "list[Reviewed]":
        """An owner's reviews, the oldest first."""
        try:
            folders = sorted((self.folder / "reviews" / owner).iterdir(), key=lambda path: path.stat().st_mtime)
        except OSError:
            return []
        return [review for path in folders if (review := _read(path))]

    async def delete(self, owner: str, review_id: str) -> bool:
        """Remove an owner's review; rows saved from it stay. False if there is none."""
        async with self._lock(review_id):
            if self._folder(owner, review_id) is None:
                return False
            await self._remove(owner, review_id)
            return True

    def save(self, owner: str, review_id: str) -> tuple[str, ...] | None:
        """Save a review's answers as training rows; None for an unknown review of the owner.

        Returns:
            The files that now have the post, relative to the owner's rows.

        Raises:
            TooMany: the owner has too many rows.
            NamepinError: E333 when the review still waits; as `save_rows`.
        """
        review, folder = self.get(owner, review_id), self._folder(owner, review_id)
        if review is None or folder is None:
            return None
        if review.extraction is None:
            raise NamepinError("E333", "there are questions left", mend="answer them first")
        if self.rows_kept(owner) >= _MOST_ROWS:
            raise TooMany(f"{_MOST_ROWS} rows are stored already: download and delete them", 60)
        ready = _ready(self._pin(review), folder)
        rows = self._rows(owner)
        files = save_rows(rows, review.extraction, ready.picture.image if ready.picture else None)
        return tuple(file.relative_to(rows).as_posix() for file in files)

    def rows_kept(self, owner: str) -> int:
        """Number of posts in an owner's training rows."""
        file = self._rows(owner) / "tagger" / "txt_fine" / "train.txt"
        if not file.is_file():
            return 0
        with file.open(encoding="utf-8") as lines:
            return sum(line.startswith("IMGID:") for line in lines)

    def rows(self, owner: str) -> Path | None:
        """A ZIP file of an owner's training rows, which the caller removes; None if there are none."""
        rows = self._rows(owner)
        files = sorted(path for path in rows.rglob("*") if path.is_file()) if rows.is_dir() else []
        if not files:
            return None
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".zip", delete=False) as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in files:
                    archive.write(path, path.relative_to(rows))
        return Path(file.name)

    def delete_rows(self, owner: str) -> bool:
        """Remove an owner's training rows; False if there are none."""
        rows = self._rows(owner)
        if not rows.is_dir():
            return False
        shutil.rmtree(rows, ignore_errors=True)
        return True

    async def _go_on(
        self, owner: str, review: Reviewed, answers: Mapping[str, Any] | None, notices: Sequence[Notice] = ()
    ) -> Reviewed:
        folder = self.folder / "reviews" / owner / review.id
        pin = await asyncio.to_thread(self._pin, review)
        ready = await asyncio.to_thread(_ready, pin, folder, begins=answers is None, notices=notices)
        await asyncio.to_thread(lambda: pin.calls)  # in a thread, so that the server answers meanwhile
        run = await Review(pin, ready, partial(open_saver, self.folder), _thread(owner, review.id)).abegin()
        try:
            if answers is not None:
                await run.aanswer(answers)
        finally:
            # Write the run's open questions, even if a crash had prevented the last write.
            decisions = tuple(Answered(question=question, answer=answer) for question, answer in run.answered)
            review = review.model_copy(
                update={
                    "state": "done" if run.extraction else "waiting",
                    "questions": run.questions,
                    "answered": (*review.answered, *decisions),
                    "extraction": run.extraction,
                }
            )
            await asyncio.to_thread(_write, folder, review)
        if run.extraction is not None:
            if self.heat is not None:
                await asyncio.to_thread(self.heat.keep, run.extraction, run.heat)
            await self._forget(owner, review.id)
        return review

    def _pin(self, review: Reviewed) -> Namepin:
        return self.pins.get(review.profile, {} if review.gamma is None else {"gate": {"gamma": review.gamma}})

    def _lock(self, review_id: str) -> asyncio.Lock:
        return self._locks.setdefault(review_id, asyncio.Lock())

    def _rows(self, owner: str) -> Path:
        return self.folder / "rows" / owner

    def _folder(self, owner: str, review_id: str) -> Path | None:
        folder = self.folder / "reviews" / owner / review_id
        return folder if re.fullmatch(r"[0-9a-f]{32}", review_id) and folder.is_dir() else None

    async def _remove(self, owner: str, review_id: str) -> None:
        shutil.rmtree(self.folder / "reviews" / owner / review_id, ignore_errors=True)
        await self._forget(owner, review_id)

    async def _forget(self, owner: str, review_id: str) -> None:
        async with open_saver(self.folder) as saver:
            await saver.adelete_thread(_thread(owner, review_id))


def _thread(owner: str, review_id: str) -> str:
    return f"review/{owner}-{review_id}"


def _ready(pin: Namepin, folder: Path, begins: bool = False, notices: Sequence[Notice] = ()) -> Ready:
    """The post of a review; a review that begins without its picture goes on without it."""
    post, file = make_post(parse_json((folder / POST).read_bytes())), folder / PICTURE
    ready = pin.ready(post, file.read_bytes() if file.is_file() else None)
    if file.is_file() and ready.picture is None:
        if not begins:
            raise NamepinError(NOT_IN_TIME, f"this time, the picture {TOO_SLOW} its deadline", mend="answer again")
        file.unlink()
    return replace(ready, notices=(*ready.notices, *notices))


def _write_post(folder: Path, row: Mapping[str, Any], picture: bytes | None) -> None:
    try:
        folder.mkdir(parents=True, mode=0o700)
        atomic_write(folder / POST, dump_json(dict(row)))
        if picture is not None:
            atomic_write(folder / PICTURE, picture)
    except OSError as error:
        raise NamepinError("E500", f"the review cannot be written: {error.strerror}") from error


def _write(folder: Path, review: Reviewed) -> None:
    try:
        atomic_write(folder / STATE, review.model_dump_json())
    except OSError as error:
        raise NamepinError("E500", f"the review cannot be written: {error.strerror}") from error


def _read(folder: Path) -> Reviewed | None:
    try:
        return Reviewed.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValueError):
        return None  # incomplete, so the review never began
