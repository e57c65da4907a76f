"""Batch jobs: accepted to disk first, worked on one after another, taken up again after a restart.

A job is a folder `jobs/OWNER/ID` with `job.json`, `posts.jsonl`, its pictures by sha256, and `predictions.jsonl`, which
grows a whole line at a time. What was accepted is therefore finished or handed back, whatever happens to the server.
"""

import asyncio
import logging
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from namepin.agent.posts import read_posts
from namepin.agent.server.access import TooMany
from namepin.agent.server.admission import Admission
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write
from namepin.tools.images.load import load_image
from namepin.tools.jsonl import dump_line, read_lines
from namepin.tools.types import Frozen

State = Literal["waiting", "running", "done", "failed"]
_log = logging.getLogger(__name__)

_QUESTIONS = 8
"""Of a job's post to language models at a time."""

_PATIENCE_S = 5.0

POSTS, RESULTS, STATE = "posts.jsonl", "predictions.jsonl", "job.json"


class Job(Frozen):
    """One batch job, as its owner sees it."""

    id: str
    profile: str
    posts: int
    done: int = 0
    failed: int = 0
    """Posts that failed; their lines say why."""
    state: State = "waiting"
    error: str | None = None


class JobPost(Frozen):
    """A post of a job, its picture as bytes."""

    row: dict[str, Any]
    picture: bytes | None = None


class Jobs:
    """All jobs below a folder.

    Args:
        folder: made on first use.
        pins: the profiles.
        most: jobs that one owner may keep.
    """

    def __init__(self, folder: Path, pins: ProfilePool, most: int) -> None:
        self.folder, self.pins, self.most = folder, pins, most
        # One post at a time, beside those of requests; its questions to servers wait in threads of their own.
        self.admission = Admission(at_once=1, waiting=0, asking=_QUESTIONS)
        self._wake = asyncio.Event()

    def accept(self, owner: str, profile: str, posts: Sequence[JobPost]) -> Job:
        """Write a job down. It is accepted when this returns.

        Raises:
            TooMany: the owner keeps too many jobs.
            NamepinError: E10x, E12x with the post that is unusable; E500 when it cannot be written.
        """
        if len(self.list(owner)) >= self.most:
            raise TooMany(f"{self.most} jobs are kept already: delete one", 60)
        job = Job(id=uuid.uuid4().hex, profile=profile, posts=len(posts))
        folder = self.folder / owner / job.id
        try:
            folder.mkdir(parents=True, mode=0o700)
            with (folder / POSTS).open("xb") as file:
                for post in posts:
                    row = {key: value for key, value in post.row.items() if key != "image"}
                    if post.picture is not None:
                        row["image"] = load_image(post.picture).ref.sha256
                        (folder / row["image"]).write_bytes(post.picture)
                    file.write(dump_line(row))
            for _ in read_posts(folder / POSTS):
                pass
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
        """An owner's job; None for one that is not there or another's."""
        folder = self._folder(owner, job_id)
        return _read(folder) if folder else None

    def list(self, owner: str) -> "list[Job]":
        """An owner's jobs."""
        if not (self.folder / owner).is_dir():
            return []
        return [job for path in sorted((self.folder / owner).iterdir()) if (job := _read(path))]

    def results(self, owner: str, job_id: str) -> Path | None:
        """The file of an owner's job's results so far, whole lines only."""
        folder = self._folder(owner, job_id)
        return folder / RESULTS if folder and (folder / RESULTS).exists() else None

    def delete(self, owner: str, job_id: str) -> bool:
        """Stop and remove an owner's job; false where there is none."""
        folder = self._folder(owner, job_id)
        if folder is None:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True

    async def work(self) -> None:
        """Work on the jobs, oldest first, until cancelled."""
        while True:
            self._wake.clear()
            waiting = [folder for folder in self._all() if (j := _read(folder)) and j.state in ("waiting", "running")]
            for folder in sorted(waiting, key=_age):
                try:
                    await self._run(folder)
                except OSError as error:  # a full disk, say: the job goes on when there is room again
                    _log.error("the job %s cannot go on: %s", folder.name, error)
                    await asyncio.sleep(_PATIENCE_S)
            if not waiting:
                await self._wake.wait()

    async def _run(self, folder: Path) -> None:
        job = _read(folder)
        if job is None:
            return
        done = _whole_lines(folder / RESULTS)
        failed = sum(b'"status":"failed"' in line for line in done)
        try:
            pin = self.pins.get(job.profile)
            # All results may be there, but for the word that says so.
            state: State = "done" if len(done) == job.posts else "running"
            self._write(folder, job.model_copy(update={"state": state, "done": len(done), "failed": failed}))
            for number, post in enumerate(read_posts(folder / POSTS)):
                if number < len(done):
                    continue
                try:
                    async with self.admission.turn():
                        result = await pin.aextract(post)
                except Exception as error:  # a job goes on, whatever one post brings about
                    result = pin.failed(post, error)
                if not folder.exists():
                    return  # deleted meanwhile
                failed += result.status == "failed"
                with (folder / RESULTS).open("a", encoding="utf-8") as file:
                    file.write(result.to_json() + "\n")
                state = "done" if number + 1 == job.posts else "running"
                update = {"state": state, "done": number + 1, "failed": failed}
                self._write(folder, job.model_copy(update=update))
        except NamepinError as error:
            self._write(folder, job.model_copy(update={"state": "failed", "error": str(error)}))

    def _folder(self, owner: str, job_id: str) -> Path | None:
        folder = self.folder / owner / job_id
        return folder if re.fullmatch(r"[0-9a-f]{32}", job_id) and folder.is_dir() else None

    def _all(self) -> Iterator[Path]:
        if self.folder.is_dir():
            for owner in self.folder.iterdir():
                yield from owner.iterdir()

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
        return None  # not written whole: it was never accepted


def _whole_lines(path: Path) -> list[bytes]:
    """The finished lines of a file; one that a crash broke off is cut away."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [line.data for line in read_lines(whole)]
