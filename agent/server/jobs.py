"""Batch jobs: stored on disk first, processed post by post, resumed after a restart.

A job is a folder `jobs/OWNER/ID` with `job.json`, `posts.jsonl`, its pictures by sha256, `source.json` about the files
that it came from, and `predictions.jsonl`, which grows by whole lines. So an accepted job is never lost, even if the
server crashes. Owners take turns post by post.
Unusable jobs are set aside: they are logged, counted in `/api/health`, and do not block other jobs.
"""

import asyncio
import errno
import hashlib
import logging
import re
import shutil
import threading
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from namepin.agent.api import Namepin
from namepin.agent.posts import read_posts
from namepin.agent.server.access import TooMany
from namepin.agent.server.admission import Admission, read_in_turn
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write
from namepin.tools.images.load import check_image
from namepin.tools.jsonl import dump_line, parse_json
from namepin.tools.types import Extraction, Frozen, Post

State = Literal["waiting", "running", "done", "failed"]
_log = logging.getLogger(__name__)

_OWNERS = 32
"""Number of owners whose posts may wait for language models or decoders at a time."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""Errors after which a job continues later."""

_PATIENCE_S = 5.0

POSTS, RESULTS, STATE, SOURCE = "posts.jsonl", "predictions.jsonl", "job.json", "source.json"


class Job(Frozen):
    """One batch job, as shown to its owner."""

    id: str
    profile: str
    posts: int
    done: int = 0
    failed: int = 0
    """Number of failed posts; their lines hold the reasons."""
    state: State = "waiting"
    error: str | None = None
    name: str | None = None
    """The name of the files that it came from."""
    skipped: int = 0
    """Number of lines of those files that are not posts."""


class JobPost(Frozen):
    """A post of a job, its picture as bytes."""

    row: dict[str, Any]
    picture: bytes | None = None


class Skipped(Frozen):
    """A line of a job's files that is not a post, and the reason."""

    where: str
    message: str


class JobSource(Frozen):
    """Where a job's posts came from.

    Attributes:
        name: the name of the files, for people.
        places: each post's place in them, in order.
        skipped: lines that are not posts; the first ones, if there are many.
        skipped_count: the number of all of them.
    """

    name: str | None = None
    places: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    skipped_count: int = 0

    def place(self, number: int) -> str:
        """The place of a post by its number, from 0."""
        return self.places[number] if number < len(self.places) else str(number + 1)


_UNKNOWN = JobSource()


class Jobs:
    """All jobs below a folder.

    Args:
        folder: created on first use.
        pins: the profiles.
        most: largest number of stored jobs per owner.
    """

    def __init__(self, folder: Path, pins: ProfilePool, most: int) -> None:
        self.folder, self.pins, self.most = folder, pins, most
        # One post at a time, besides the requests' posts; its server calls wait in separate threads.
        self.admission = Admission(at_once=1, waiting=_OWNERS, asking=_OWNERS)
        self.set_aside: dict[Path, str] = {}
        """Unusable files and folders, with reasons."""
        self._owners = asyncio.Semaphore(_OWNERS)
        self._wake = asyncio.Event()
        self._accepting = threading.Lock()

    def accept(self, owner: str, profile: str, posts: Sequence[JobPost], source: JobSource = _UNKNOWN) -> Job:
        """Store a job. It is accepted when this returns.

        Raises:
            TooMany: the owner has too many jobs.
            NamepinError: E10x, E12x with an unusable post; E500 when the job cannot be written.
        """
        told = {"name": source.name, "skipped": source.skipped_count}
        job = Job(id=uuid.uuid4().hex, profile=profile, posts=len(posts), **told)
        folder = self.folder / owner / job.id
        try:
            with self._accepting:
                self._make_folder(owner, folder)
            with (folder / POSTS).open("xb") as file:
                for post in posts:
                    row = {key: value for key, value in post.row.items() if key != "image"}
                    if post.picture is not None:
                        check_image(post.picture)  # its pixels are decoded when its turn comes
                        row["image"] = hashlib.sha256(post.picture).hexdigest()
                        (folder / row["image"]).write_bytes(post.picture)
                    file.write(dump_line(row))
            for _ in read_posts(folder / POSTS):
                pass
            (folder / SOURCE).write_text(source.model_dump_json(), "utf-8")
            self._write(folder, job)
        except NamepinError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise NamepinError("E500", f"the job cannot be written: {error.strerror}") from error
        self._wake.set()
        return job

    def get(self, owner: str, job_id: str) -> Job | None:
        """An owner's job; None for a missing job or another owner's job."""
        folder = self._folder(owner, job_id)
        return _read(folder) if folder else None

    def list(self, owner: str) -> "list[Job]":
        """An owner's jobs."""
        if not (self.folder / owner).is_dir():
            return []
        return [job for path in sorted((self.folder / owner).iterdir()) if (job := _read(path))]

    def age(self, owner: str, job_id: str) -> float:
        """When a job was accepted, in seconds since the epoch; 0 for a missing one."""
        folder = self._folder(owner, job_id)
        return _age(folder) if folder else 0.0

    def results(self, owner: str, job_id: str) -> Path | None:
        """The file with the results so far of an owner's job, whole lines only."""
        folder = self._folder(owner, job_id)
        return folder / RESULTS if folder and (folder / RESULTS).exists() else None

    def source(self, owner: str, job_id: str) -> tuple[Path, JobSource] | None:
        """The folder of an owner's job, and where its posts came from; None for a missing job or another owner's."""
        folder = self._folder(owner, job_id)
        if folder is None:
            return None
        try:
            return folder, JobSource.model_validate_json((folder / SOURCE).read_bytes())
        except (OSError, ValueError):
            return folder, _UNKNOWN  # a job of an earlier version

    def delete(self, owner: str, job_id: str) -> bool:
        """Stop and remove an owner's job; False if there is none."""
        folder = self._folder(owner, job_id)
        if folder is None:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True

    async def work(self) -> None:
        """Process the jobs until cancelled: the owners in turn, each owner's oldest job first."""
        working: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                self._wake.clear()
                for owner in await asyncio.to_thread(self._owners_waiting):
                    if owner not in working or working[owner].done():
                        working[owner] = asyncio.create_task(self._work_for(owner))
                        working[owner].add_done_callback(lambda _: self._wake.set())
                await self._wake.wait()
        finally:
            for task in working.values():
                task.cancel()
            await asyncio.gather(*working.values(), return_exceptions=True)

    async def _work_for(self, owner: str) -> None:
        while waiting := await asyncio.to_thread(self._waiting, self.folder / owner):
            for folder in waiting:
                try:
                    await self._run(folder)
                except Exception as error:  # one job's error does not stop other jobs
                    if isinstance(error, OSError) and error.errno in _FULL:
                        _log.error("the job %s cannot continue: %s", folder.name, error)
                        await asyncio.sleep(_PATIENCE_S)
                    else:
                        self._put_aside(folder, f"{type(error).__name__}: {error}")

    async def _run(self, folder: Path) -> None:
        job = _read(folder)
        if job is None:
            return
        try:
            pin = await asyncio.to_thread(self.pins.get, job.profile)
            await asyncio.to_thread(lambda: pin.calls)
            posts = await asyncio.to_thread(lambda: list(read_posts(folder / POSTS)))
            if len(posts) != job.posts:
                raise NamepinError("E104", f"the job's file holds {len(posts)} of its {job.posts} posts")
            done, failed = await asyncio.to_thread(_count_finished, folder / RESULTS, posts)
            # All results may exist without the final state.
            self._write(folder, _advance(job, done, failed))
            for post in posts[done:]:
                result = await self._result(pin, post)
                if not folder.exists():
                    return  # deleted meanwhile
                with (folder / RESULTS).open("a", encoding="utf-8") as file:
                    file.write(result.to_json() + "\n")
                done, failed = done + 1, failed + (result.status == "failed")
                if done == job.posts:
                    done, failed = await asyncio.to_thread(_count_finished, folder / RESULTS, posts)
                self._write(folder, _advance(job, done, failed))
        except NamepinError as error:
            self._write(folder, job.model_copy(update={"state": "failed", "error": str(error)}))

    async def _result(self, pin: Namepin, post: Post) -> Extraction:
        try:
            async with self._owners, self.admission.turn() as turn:
                data = await asyncio.to_thread(Path(post.image).read_bytes) if post.image else None
                ready = await read_in_turn(turn, data, pin.settings.images.max_pixels, partial(pin.ready, post))
                return await pin.aextract(ready)
        except Exception as error:  # one post never ends a job
            return pin.failed_extraction(post, error)

    def _make_folder(self, owner: str, folder: Path) -> None:
        # Jobs that are being accepted at this moment also have folders.
        stored = [path for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        if len(stored) >= self.most:
            raise TooMany(f"{self.most} jobs are stored already: delete one", 60)
        folder.mkdir(parents=True, mode=0o700)

    def _owners_waiting(self) -> Sequence[str]:
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for path in folders:
            if not path.is_dir():
                self._put_aside(path, "it is not an owner's folder")
        return [path.name for path in folders if path.is_dir() and self._waiting(path)]

    def _waiting(self, owner: Path) -> Sequence[Path]:
        """An owner's unfinished jobs, oldest first."""
        waiting = []
        for path in owner.iterdir():
            if path in self.set_aside:
                continue
            job = _read(path)
            if job is not None and job.state in ("waiting", "running"):
                waiting.append(path)
            elif job is None and (not path.is_dir() or (path / STATE).exists()):
                self._put_aside(path, f"it is not a job's folder, or its {STATE} cannot be read")
        return sorted(waiting, key=_age)

    def _put_aside(self, path: Path, why: str) -> None:
        if path not in self.set_aside:
            _log.error("set aside among the jobs: %r: %s", str(path), " ".join(why.split()))
            self.set_aside[path] = why

    def _folder(self, owner: str, job_id: str) -> Path | None:
        folder = self.folder / owner / job_id
        return folder if re.fullmatch(r"[0-9a-f]{32}", job_id) and folder.is_dir() else None

    @staticmethod
    def _write(folder: Path, job: Job) -> None:
        try:
            atomic_write(folder / STATE, job.model_dump_json())
        except FileNotFoundError:
            if folder.exists():
                raise


def _age(folder: Path) -> float:
    try:
        return (folder / POSTS).stat().st_mtime
    except OSError:
        return 0.0  # deleted meanwhile


def _read(folder: Path) -> Job | None:
    try:
        return Job.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValueError):
        return None  # incomplete, so it was never accepted


def _advance(job: Job, done: int, failed: int) -> Job:
    state: State = "done" if done == job.posts else "running"
    return job.model_copy(update={"state": state, "done": done, "failed": failed})


def _count_finished(path: Path, posts: Sequence[Post]) -> tuple[int, int]:
    """The number of posts with results in the file, in order, and the number of failed ones.

    The file is truncated before the first line that is torn or has another post's result.
    """
    if not path.exists():
        return 0, 0
    done, failed, whole = 0, 0, 0
    with path.open("r+b") as file:
        for post, line in zip(posts, file, strict=False):  # a binary file's lines end at LF alone
            try:
                result = parse_json(line) if line.endswith(b"\n") else None
            except ValueError:
                result = None
            if not isinstance(result, dict) or result.get("id") != post.id:
                break
            done, failed, whole = done + 1, failed + (result.get("status") == "failed"), whole + len(line)
        if whole < path.stat().st_size:
            _log.warning("%s is cut after %d results: the rest is not about its posts", path, done)
            file.truncate(whole)
    return done, failed
