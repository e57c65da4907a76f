"""Pinned revisions of weights on the hub: the table that ships with Namepin, and the lock that `namepin pull` writes.

A name on the hub without a revision means "the newest", which may change under a running project. The first pull of a
name records the commit and the sha256 of every file in the lock; later pulls and all loaders use that commit.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from namepin.tools.errors import NamepinError, first_problem
from namepin.tools.files import atomic_write
from namepin.tools.types import Frozen

LOCK_VARIABLE = "NAMEPIN_LOCK"
"""Environment variable with the lock's path."""
BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model")
"""The files of a repository that are read beside its tensors."""
SAFETENSORS, PICKLED = "model*.safetensors", "pytorch_model*.bin"
"""The tensors; the second form is read only where the repository lacks the first."""
TABLE = Path(__file__).resolve().parents[1] / "data" / "revisions.toml"


class LockedFile(Frozen):
    """A pulled file: its size in bytes, and the sha256 of its bytes."""

    size: int
    sha256: str


class LockedRepository(Frozen):
    """A pulled repository: its commit on the hub, and its pulled files by path."""

    revision: str
    files: Mapping[str, LockedFile]


class _Lock(Frozen):
    format: int = 1
    repositories: Mapping[str, LockedRepository] = {}


def lock_path() -> Path:
    """The lock: NAMEPIN_LOCK, or `namepin-lock.json` in the hub's home (HF_HOME), beside the weights that it pins."""
    if named := os.environ.get(LOCK_VARIABLE):
        return Path(named)
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "namepin-lock.json"


def lock_key(name: str, revision: str | None) -> str:
    """The lock's key of a repository: its name, and the revision where a profile names one."""
    return f"{name}@{revision}" if revision else name


def read_lock(path: Path) -> Mapping[str, LockedRepository]:
    """The locked repositories by `lock_key`; none where the file does not exist.

    Raises:
        NamepinError: E228 when the file is damaged.
    """
    if not path.is_file():
        return {}
    mend = f"delete it, and `namepin pull` records it again; or set {LOCK_VARIABLE}"
    try:
        return _Lock.model_validate(json.loads(path.read_text(encoding="utf-8"))).repositories
    except ValidationError as error:
        what = f"the lock of pulled weights is damaged: {first_problem(error)}"
        raise NamepinError("E228", what, where=str(path), mend=mend) from error
    except (OSError, ValueError) as error:
        raise NamepinError("E228", "the lock of pulled weights is damaged", where=str(path), mend=mend) from error


def write_lock(path: Path, repositories: Mapping[str, LockedRepository]) -> None:
    """Write the lock, sorted, so that it can be kept under version control."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _Lock(repositories=repositories).model_dump(mode="json")
    atomic_write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


_IN_CACHE = re.compile(r"models--([^/\\\\]+?)--([^/\\\\]+)[/\\\\]")


def fetch_again(where: str) -> str:
    """How to get damaged or missing weights again: by `namepin pull`, where they lie in the hub's cache."""
    if found := _IN_CACHE.search(where):
        return f"run `namepin pull {found[1]}/{found[2]}`, which replaces damaged files"
    return "copy them again, or let `namepin pull NAME` fetch what a profile names on the hub"


@cache
def shipped_revisions() -> Mapping[str, str]:
    """Name on the hub -> commit, from the table that ships with Namepin."""
    return dict(tomllib.loads(TABLE.read_text(encoding="utf-8"))["revisions"])


def pinned_revision(name: str, revision: str | None = None) -> str | None:
    """The revision to load: the commit in the lock, else `revision` (a profile's), else the shipped table's.

    None means that nothing pins the name: the hub's newest commit is loaded.

    Raises:
        NamepinError: E228 when the lock is damaged.
    """
    locked = read_lock(lock_path()).get(lock_key(name, revision))
    return locked.revision if locked else revision or shipped_revisions().get(name)
