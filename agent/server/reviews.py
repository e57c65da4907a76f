"""Reviews: posts whose close decisions wait for their owner, also over a restart of the server.

A review is a folder `reviews/OWNER/ID` with `review.json` (what its owner sees), `post.json` and the picture; how far
its run has come is kept by the checkpointer that keeps conversations. Answers that are worth training on are rows in
`rows/OWNER`.
"""

import asyncio
import re
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Mapping
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
from namepin.tools.jsonl import dump_json, parse_json
from namepin.tools.types import Extraction, Frozen

STATE, POST, PICTURE = "review.json", "post.json", "picture"
_MOST_ROWS = 10_000
"""Rows that one owner may keep."""


class Answered(Frozen):
    """A question, and what its owner chose."""

    question: Question
    answer: str


class Reviewed(Frozen):
    """One review, as its owner sees it.

    Attributes:
        id: names it.
        profile: the profile that reads the post.
        gamma: the gate's threshold, where another was asked for.
        state: `waiting` for answers, or `done`.
        questions: what is to be decided now, all of it at once.
        answered: what was decided so far.
        extraction: the result of one that is done.
        source: which result of a conversation it is about; empty where it is about none.
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
        folder: the data folder, where conversations are kept, too.
        pins: the profiles.
        most: reviews that one owner may keep.
        heat: where the heat maps of results are kept; None where nobody draws them.
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
        source: str = "",
    ) -> Reviewed:
        """Read a post, and stop where it is close.

        Raises:
            TooMany: the owner keeps too many reviews.
            NamepinError: E10x, E12x for the post, E200 for the profile; as `Namepin.areview`.
        """
        kept = self.list(owner)
        if source and len(kept) >= self.most:
            # A page's results are in its conversation: those that are done make room.
            done = [one for one in kept if one.source and one.state == "done"]
            for one in done[: len(kept) - self.most + 1]:
                await self.delete(owner, one.id)
                kept.remove(one)
        if len(kept) >= self.most:
            raise TooMany(f"{self.most} reviews are kept already: delete one", 60)
        begun = Reviewed(id=uuid.uuid4().hex, profile=profile, gamma=gamma, source=source)
        folder = self.folder / "reviews" / owner / begun.id
        try:
            await asyncio.to_thread(_write_post, folder, row, picture)
            return await self._go_on(owner, begun, None)
        except BaseException:
            await self._remove(owner, begun.id)
            raise

    async def answer(self, owner: str, review_id: str, answers: Mapping[str, Any]) -> Reviewed | None:
        """Decide, and go on until the next questions or the end; None where the owner has no such review.

        Raises:
            NamepinError: E333 for answers that do not fit: the review still waits. E334 when the server has other tools
                or settings by now.
        """
        async with self._lock(review_id):
            kept = self.get(owner, review_id)
            if kept is None:
                return None
            if kept.state == "done":
                raise NamepinError("E333", "nothing is asked", mend="the review is done: take its extraction")
            return await self._go_on(owner, kept, answers)

    def get(self, owner: str, review_id: str) -> Reviewed | None:
        """An owner's review; None for one that is not there or another's."""
        folder = self._folder(owner, review_id)
        return _read(folder) if folder else None

    def list(self, owner: str) -> "list[Reviewed]":
        """An owner's reviews, those begun first first."""
        try:
            folders = sorted((self.folder / "reviews" / owner).iterdir(), key=lambda path: path.stat().st_mtime)
        except OSError:
            return []
        return [kept for path in folders if (kept := _read(path))]

    async def delete(self, owner: str, review_id: str) -> bool:
        """Remove an owner's review; rows that were saved from it stay. False where there is none."""
        async with self._lock(review_id):
            if self._folder(owner, review_id) is None:
                return False
            await self._remove(owner, review_id)
            return True

    def save(self, owner: str, review_id: str) -> tuple[str, ...] | None:
        """Keep a review's answers as training rows; None where the owner has no such review.

        Returns:
            The files that the post is in now, relative to the owner's rows.

        Raises:
            TooMany: the owner keeps too many rows.
            NamepinError: E333 when it still waits; as `save_rows`.
        """
        kept, folder = self.get(owner, review_id), self._folder(owner, review_id)
        if kept is None or folder is None:
            return None
        if kept.extraction is None:
            raise NamepinError("E333", "there are questions left", mend="answer them first")
        if self.rows_kept(owner) >= _MOST_ROWS:
            raise TooMany(f"{_MOST_ROWS} rows are kept already: take them and delete them", 60)
        ready = _ready(self._pin(kept), folder)
        rows = self._rows(owner)
        files = save_rows(rows, kept.extraction, ready.picture.image if ready.picture else None)
        return tuple(file.relative_to(rows).as_posix() for file in files)

    def rows_kept(self, owner: str) -> int:
        """Posts among an owner's training rows."""
        file = self._rows(owner) / "tagger" / "txt_fine" / "train.txt"
        if not file.is_file():
            return 0
        with file.open(encoding="utf-8") as lines:
            return sum(line.startswith("IMGID:") for line in lines)

    def rows(self, owner: str) -> Path | None:
        """A ZIP file of an owner's training rows, which whoever takes it removes; None where there are none."""
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
        """Remove an owner's training rows; false where there are none."""
        rows = self._rows(owner)
        if not rows.is_dir():
            return False
        shutil.rmtree(rows, ignore_errors=True)
        return True

    async def _go_on(self, owner: str, kept: Reviewed, answers: Mapping[str, Any] | None) -> Reviewed:
        folder = self.folder / "reviews" / owner / kept.id
        pin = await asyncio.to_thread(self._pin, kept)
        ready = await asyncio.to_thread(_ready, pin, folder)
        await asyncio.to_thread(lambda: pin.calls)  # a server answers meanwhile
        run = await Review(pin, ready, partial(open_saver, self.folder), _thread(owner, kept.id)).abegin()
        try:
            if answers is not None:
                await run.aanswer(answers)
        finally:
            # What is written is what the run waits for, also where a crash had kept the last step from being written.
            told = tuple(Answered(question=question, answer=answer) for question, answer in run.answered)
            kept = kept.model_copy(
                update={
                    "state": "done" if run.extraction else "waiting",
                    "questions": run.questions,
                    "answered": (*kept.answered, *told),
                    "extraction": run.extraction,
                }
            )
            await asyncio.to_thread(_write, folder, kept)
        if run.extraction is not None:
            if self.heat is not None:
                await asyncio.to_thread(self.heat.keep, run.extraction, run.heat)
            await self._forget(owner, kept.id)
        return kept

    def _pin(self, kept: Reviewed) -> Namepin:
        return self.pins.get(kept.profile, {} if kept.gamma is None else {"gate": {"gamma": kept.gamma}})

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


def _ready(pin: Namepin, folder: Path) -> Ready:
    row = parse_json((folder / POST).read_bytes())
    picture = folder / PICTURE
    return pin.ready(make_post(row), picture.read_bytes() if picture.is_file() else None)


def _write_post(folder: Path, row: Mapping[str, Any], picture: bytes | None) -> None:
    try:
        folder.mkdir(parents=True, mode=0o700)
        atomic_write(folder / POST, dump_json(dict(row)))
        if picture is not None:
            atomic_write(folder / PICTURE, picture)
    except OSError as error:
        raise NamepinError("E500", f"the review cannot be written: {error.strerror}") from error


def _write(folder: Path, kept: Reviewed) -> None:
    try:
        atomic_write(folder / STATE, kept.model_dump_json())
    except OSError as error:
        raise NamepinError("E500", f"the review cannot be written: {error.strerror}") from error


def _read(folder: Path) -> Reviewed | None:
    try:
        return Reviewed.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValueError):
        return None  # not written whole: it was never begun
