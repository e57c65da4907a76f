"""Repositories of weights on a Hugging Face hub: their files, and downloads that resume and check every byte.

Listings, small files and the cache's layout are those of the `huggingface_hub` client. It writes large files to a
temporary name and starts again after a kill, so their bytes are fetched here: into `blobs/SHA256.incomplete`, which the
next run continues, and which becomes a part of the cache only when its sha256 is the listed one.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from namepin.tools.base import file_sha256
from namepin.tools.errors import Exit, NamepinError, first_line

TOKEN_VARIABLE = "HF_TOKEN"
_AGAIN = "run the same command again: it goes on where it stopped"


class Advance(Protocol):
    """Is called with every number of bytes of a file that arrived, and with a negative one where bytes were useless."""

    def __call__(self, file: str, count: int) -> None:
        """Count them."""
        ...


@dataclass(frozen=True)
class Hub:
    """Where weights come from and go to.

    Attributes:
        endpoint: the hub's address (HF_ENDPOINT).
        cache: the client's cache folder (HF_HOME or HF_HUB_CACHE).
        token: the key to gated models, from the environment only; it is never written or shown.
        offline: whether nothing may be requested (HF_HUB_OFFLINE).
        attempts: number of connections in a row without a new byte after which a download fails.
        wait_s: seconds between them.
        timeout_s: longest silence of the hub within a request.
    """

    endpoint: str
    cache: Path
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    attempts: int = 5
    wait_s: float = 1.0
    timeout_s: float = 20.0

    @classmethod
    def from_environment(cls) -> "Hub":
        """The hub that the client would use."""
        from huggingface_hub import constants

        return cls(
            endpoint=constants.ENDPOINT,
            cache=Path(constants.HF_HUB_CACHE),
            token=os.environ.get(TOKEN_VARIABLE) or None,
            offline=constants.is_offline_mode(),
        )

    @property
    def api(self) -> Any:
        """The client."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token or False, library_name="namepin")

    def folder(self, name: str) -> Path:
        """The repository's folder in the cache."""
        return self.cache / f"models--{name.replace('/', '--')}"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        path: its path in the repository.
        size: bytes.
        blob: git's sha1 of the file, or of its pointer where the file is large.
        sha256: of the file's bytes; the hub lists it for large files only.
    """

    path: str
    size: int
    blob: str
    sha256: str | None = None


def client_utils() -> Any:
    """The client's `utils`, whose stubs hide what it exports."""
    return import_module("huggingface_hub.utils")


def commit_of(hub: Hub, name: str, revision: str | None) -> str:
    """The commit of a revision, or the newest one.

    Raises:
        NamepinError: E222 to E224.
    """
    with hub_errors(hub, name, revision):
        return str(hub.api.model_info(name, revision=revision, timeout=hub.timeout_s).sha)


def list_files(hub: Hub, name: str, commit: str) -> list[HubFile]:
    """All files of a repository at a commit.

    Raises:
        NamepinError: E222 to E224.
    """
    from huggingface_hub.hf_api import RepoFile

    with hub_errors(hub, name, commit):
        entries = list(hub.api.list_repo_tree(name, recursive=True, revision=commit))
    return [
        HubFile(entry.path, entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
        for entry in entries
        if isinstance(entry, RepoFile)
    ]


def cached_file(hub: Hub, name: str, commit: str, file: HubFile) -> Path | None:
    """The file's path in the cache; None where it is not there, or has another size."""
    pointer = hub.folder(name) / "snapshots" / commit / file.path
    blob = _blob(hub, name, file)
    found = next((path for path in (pointer, blob) if path and path.is_file()), None)
    return found if found and found.stat().st_size == file.size else None


def arrived(hub: Hub, name: str, file: HubFile) -> int:
    """Number of bytes of a file that an earlier run has fetched."""
    part = _part(hub, name, file)
    return part.stat().st_size if part and part.is_file() else 0


def intact(path: Path, file: HubFile) -> bool:
    """Whether a file's bytes are the listed ones: by sha256, or by git's sha1 for small files."""
    if file.sha256:
        return file_sha256(path) == file.sha256
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == file.blob


def drop(hub: Hub, name: str, commit: str, file: HubFile) -> None:
    """Remove a damaged file from the cache, so that it is fetched again."""
    pointer = hub.folder(name) / "snapshots" / commit / file.path
    if pointer.exists():
        pointer.resolve().unlink(missing_ok=True)
    pointer.unlink(missing_ok=True)
    if blob := _blob(hub, name, file):
        blob.unlink(missing_ok=True)


def fetch(hub: Hub, name: str, commit: str, files: Sequence[HubFile], advance: Advance) -> Path:
    """Put the files into the cache, every byte checked.

    Returns:
        The snapshot's folder.

    Raises:
        NamepinError: E222 to E224 where the hub does not give them, E226 where it gives other bytes.
    """
    from huggingface_hub import snapshot_download

    for file in files:
        if file.sha256 and cached_file(hub, name, commit, file) is None:
            _fetch_large(hub, name, commit, file, advance)
    small = [file for file in files if not file.sha256]
    with hub_errors(hub, name, commit):
        folder = Path(
            snapshot_download(
                name,
                revision=commit,
                cache_dir=hub.cache,
                token=hub.token or False,
                endpoint=hub.endpoint,
                etag_timeout=hub.timeout_s,
                allow_patterns=[_literal(file.path) for file in files],
                tqdm_class=_silent_bar(),
            )
        )
    for file in small:
        if not intact(folder / file.path, file):
            drop(hub, name, commit, file)
            raise _other_bytes(hub, name, file)
    return folder


def _fetch_large(hub: Hub, name: str, commit: str, file: HubFile, advance: Advance) -> None:
    """Fetch a file whose sha256 is known; a part of an earlier run is continued, and dropped if it proves damaged."""
    part, blob = _part(hub, name, file), _blob(hub, name, file)
    assert part is not None and blob is not None
    part.parent.mkdir(parents=True, exist_ok=True)
    with client_utils().WeakFileLock(part.with_suffix(".pull-lock")):
        while not blob.is_file():
            continued = arrived(hub, name, file) > 0
            _receive(hub, name, commit, file, part, advance)
            if part.stat().st_size == file.size and file_sha256(part) == file.sha256:
                part.replace(blob)
            else:
                advance(file.path, -part.stat().st_size)
                part.unlink()
                if not continued:
                    raise _other_bytes(hub, name, file)


def _receive(hub: Hub, name: str, commit: str, file: HubFile, part: Path, advance: Advance) -> None:
    """Append to `part` until it has the file's size; a cut connection is opened again from there."""
    left = hub.attempts
    while (before := part.stat().st_size if part.is_file() else 0) < file.size:
        try:
            with hub_errors(hub, name, commit):
                _append(hub, name, commit, file, part, advance)
        except NamepinError as error:
            if error.code != "E224":
                raise
            left = hub.attempts if part.is_file() and part.stat().st_size > before else left - 1
            if left <= 0:
                raise
            time.sleep(hub.wait_s)


def _append(hub: Hub, name: str, commit: str, file: HubFile, part: Path, advance: Advance) -> None:
    """One request for the rest of a file."""
    from huggingface_hub import get_session, hf_hub_url

    utils = client_utils()
    have = part.stat().st_size if part.is_file() else 0
    headers = utils.build_hf_headers(token=hub.token or False, library_name="namepin")
    headers |= {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
    url = hf_hub_url(name, file.path, revision=commit, endpoint=hub.endpoint)
    session: Any = get_session()
    with session.stream("GET", url, headers=headers, follow_redirects=True, timeout=hub.timeout_s) as response:
        if response.status_code >= 400:
            response.read()
        utils.hf_raise_for_status(response)
        with part.open("ab") as out:
            if response.status_code != 206 and have:  # the server does not serve parts
                out.truncate(0)
                advance(file.path, -have)
            for chunk in response.iter_bytes():
                out.write(chunk)
                advance(file.path, len(chunk))
                if out.tell() > file.size:
                    return


def _blob(hub: Hub, name: str, file: HubFile) -> Path | None:
    return hub.folder(name) / "blobs" / file.sha256 if file.sha256 else None


def _part(hub: Hub, name: str, file: HubFile) -> Path | None:
    return hub.folder(name) / "blobs" / f"{file.sha256}.incomplete" if file.sha256 else None


def _literal(path: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _silent_bar() -> Any:
    """The client's progress bar, switched off."""
    tqdm: Any = import_module("tqdm.auto").tqdm

    class Silent(tqdm):  # type: ignore[misc]  # untyped
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

    return Silent


def _other_bytes(hub: Hub, name: str, file: HubFile) -> NamepinError:
    what = f"{hub.endpoint} gives other bytes of {name}/{file.path} than its listing says: the sha256 differs"
    mend = "nothing of it was kept. Try again; if it stays so, distrust this endpoint or the proxy before it"
    return NamepinError("E226", what, mend=mend, exit_code=Exit.UNREACHABLE)


@contextmanager
def hub_errors(hub: Hub, name: str, revision: str | None = None) -> Iterator[None]:
    """Turn the client's errors into E222 (refused), E223 (not there), E224 (no answer, cut) and E225 (disk full).

    No message holds the token.
    """
    from huggingface_hub import errors

    where = f"{name}@{revision[:12]}" if revision else name

    def fail(code: str, what: str, mend: str) -> NamepinError:
        return NamepinError(code, what, where=where, mend=mend, exit_code=Exit.UNREACHABLE)

    try:
        yield
    except NamepinError:
        raise
    except errors.OfflineModeIsEnabled as error:
        raise fail("E224", "offline mode is on (HF_HUB_OFFLINE)", "unset it, or copy the hub's cache here") from error
    except errors.LocalEntryNotFoundError as error:  # the client's word for a hub that does not answer
        raise fail("E224", f"{hub.endpoint} did not answer: {first_line(error)}", _AGAIN) from None
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError):
        raise fail("E223", f"{hub.endpoint} does not have this revision or file", "check name and revision") from None
    except errors.HfHubHTTPError as error:
        raise _refusal(error, hub, name, fail) from None  # its request holds the token
    except OSError as error:
        if error.errno is None or type(error).__module__.partition(".")[0] in ("httpx", "httpx2"):
            raise fail("E224", f"{hub.endpoint}: {first_line(error)}", _AGAIN) from None
        raise NamepinError("E225", f"cannot write: {error}", where=str(hub.cache), mend="free disk space") from error
    except Exception as error:  # the transport's dozen types
        raise fail("E224", f"{hub.endpoint} did not answer, or broke off: {first_line(error)}", _AGAIN) from None


def _refusal(error: Any, hub: Hub, name: str, fail: Callable[[str, str, str], NamepinError]) -> NamepinError:
    from huggingface_hub import errors

    status = error.response.status_code
    if status == 404 and not isinstance(error, errors.GatedRepoError):
        return fail("E223", f"{hub.endpoint} has no repository {name}", "check the name")
    if status in (401, 403, 404):
        # The hub answers 401 for a name that does not exist, too.
        token = f"the token in {TOKEN_VARIABLE} may not read it" if hub.token else f"{TOKEN_VARIABLE} is not set"
        what = f"{hub.endpoint} refuses {name} (HTTP {status}): it is gated or private, or does not exist; {token}"
        return fail("E222", what, f"accept its terms at {hub.endpoint}/{name}, and set {TOKEN_VARIABLE}")
    return fail("E224", f"{hub.endpoint} answers HTTP {status}", _AGAIN)
