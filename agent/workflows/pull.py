"""Fetches the weights that a profile names: planned with sizes first, pinned, resumed, and checked byte for byte."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from shutil import disk_usage
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from namepin.agent.config.layers import profile_names
from namepin.agent.config.settings import Settings, load_settings
from namepin.agent.workflows.checkpoint_sizes import PUBLISHED, NeededWeights, wanted_weights
from namepin.agent.workflows.hub import (
    Advance,
    Hub,
    HubFile,
    arrived,
    cached_file,
    client_utils,
    commit_of,
    drop,
    fetch,
    intact,
    list_files,
)
from namepin.graphs.registry import ROLES_OF
from namepin.tools.base import file_sha256
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.loading.pins import (
    BESIDE_WEIGHTS,
    PICKLED,
    SAFETENSORS,
    LockedFile,
    LockedRepository,
    lock_key,
    lock_path,
    read_lock,
    shipped_revisions,
    write_lock,
)

SPARE_BYTES = 64 * 2**20
"""Disk space that stays free."""


@dataclass(frozen=True)
class Wanted:
    """A name on the hub that a profile needs.

    Attributes:
        name: OWNER/NAME.
        revision: the profile's own, if it names one.
        weights: whether the tensors are needed; else tokenizer and configuration only.
        file: the one file that is needed, and `into` the path at which the profile expects it.
    """

    name: str
    revision: str | None = None
    weights: bool = True
    file: str | None = None
    into: Path | None = None


@dataclass(frozen=True)
class Repository:
    """What the hub has of a wanted name.

    Attributes:
        wanted: the name.
        commit: its commit.
        pinned_by: what decides the commit: the lock, the profile, the shipped table, or nothing but the hub.
        files: the needed files.
        missing: those that are not on this machine.
        resumed: bytes of the missing ones that an earlier run has fetched.
    """

    wanted: Wanted
    commit: str
    pinned_by: Literal["lock", "profile", "namepin", "hub"]
    files: tuple[HubFile, ...]
    missing: tuple[HubFile, ...]
    resumed: int = 0

    @property
    def size(self) -> int:
        """Bytes of all needed files."""
        return sum(file.size for file in self.files)

    @property
    def download(self) -> int:
        """Bytes still to be fetched."""
        return sum(file.size for file in self.missing) - self.resumed


@dataclass(frozen=True)
class Plan:
    """What a pull does.

    Attributes:
        repositories: on the hub, in the order of the graph.
        elsewhere: weights that are not on a hub -> the command that fetches them.
        free: bytes free on the cache's disk.
    """

    repositories: tuple[Repository, ...]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    free: int = 0

    @property
    def download(self) -> int:
        """Bytes still to be fetched from the hub."""
        return sum(repository.download for repository in self.repositories)


class Progress(Protocol):
    """Is told what a pull does."""

    def repository(self, repository: Repository) -> None:
        """Its files are fetched and checked from here on."""
        ...

    def advance(self, file: str, count: int) -> None:
        """As `Advance`."""
        ...


def settings_of(what: str, assignments: Sequence[str] = ()) -> Settings | None:
    """The profile that `what` names; None where it names weights, as OWNER/NAME or as a published file.

    Raises:
        NamepinError: E200 where it is neither, and the errors of `load_settings`.
    """
    named = what.count("/") == 1 and not what.endswith(".toml") and what[0] not in "./~" and not Path(what).exists()
    if what not in profile_names() and (named or Path(what).name in PUBLISHED):
        return None
    return load_settings(what, assignments=assignments)


def wanted_of(what: str, settings: Settings | None) -> tuple[list[Wanted], dict[str, str]]:
    """The wanted names, each once, and the commands for weights that are not on a hub."""
    hub: dict[Wanted, None] = {}
    elsewhere: dict[str, str] = {}
    for need in _needs(what, settings):
        if isinstance(need, Wanted):
            hub[need] = None
        elif need.hub_file:
            hub[Wanted(need.hub_file[0], file=need.hub_file[1], into=Path(need.weights))] = None
        elif Path(need.weights).suffix in (".pt", ".pth") or need.weights.startswith("sandbox/"):
            if not need.here:
                elsewhere[need.weights] = need.command
        elif need.weights.count("/") == 1 and not need.local:
            hub[Wanted(need.weights, need.revision)] = None
    full = {wanted.name for wanted in hub if wanted.weights and not wanted.file}
    return [wanted for wanted in hub if wanted.weights or wanted.name not in full], elsewhere


def _needs(what: str, settings: Settings | None) -> Iterator[NeededWeights | Wanted]:
    if settings is None:
        yield NeededWeights(what, None, "float32", "none", False)
        return
    for role, chosen in settings.tools.items():
        if role not in ROLES_OF[settings.graph_key]:
            continue
        yield from wanted_weights(chosen.config)
        yield from _tokenizers(chosen.config)
        if role == "tagger":
            yield from _encoder(chosen.config)


def _tokenizers(config: BaseModel) -> Iterator[Wanted]:
    """Tokenizers that the settings name on the hub, for weights in a single file, which has none."""
    settings: Mapping[str, Any] = {name: getattr(config, name) for name in type(config).model_fields}
    tokenizer, weights = settings.get("tokenizer"), settings.get("weights")
    if isinstance(tokenizer, str) and tokenizer.count("/") == 1 and not Path(tokenizer).exists():
        if Path(str(weights)).suffix in (".pt", ".pth"):
            yield Wanted(tokenizer, weights=False)
    for value in settings.values():
        if isinstance(value, BaseModel):
            yield from _tokenizers(value)


def _encoder(config: BaseModel) -> Iterator[Wanted]:
    """The tagger's base, unless a package or a folder has it."""
    from namepin.tools.loading.encoder import local_encoder
    from namepin.tools.loading.shipped import WEIGHTS
    from namepin.tools.tagger.adapter import read_manifest

    name = str(config.model_dump()["adapter"])
    encoder = read_manifest(WEIGHTS / name if (WEIGHTS / name).is_dir() else Path(name)).spec.encoder
    if local_encoder(encoder) is None:
        yield Wanted(encoder)


def plan(hub: Hub, wanted: Sequence[Wanted], elsewhere: Mapping[str, str], *, update: bool = False) -> Plan:
    """What has to be fetched, with sizes; asks the hub for listings, and fetches nothing.

    Args:
        hub: the hub.
        wanted: the names.
        elsewhere: as in `Plan`.
        update: forget the lock: take the profile's or the shipped revision, else the hub's newest commit.

    Raises:
        NamepinError: E222 to E224 where the hub does not answer, E228 for a damaged lock.
    """
    repositories = tuple(_repository(hub, one, update) for one in wanted)
    return Plan(repositories, dict(elsewhere), _free(hub.cache))


def _repository(hub: Hub, wanted: Wanted, update: bool) -> Repository:
    locked = None if update else read_lock(lock_path()).get(lock_key(wanted.name, wanted.revision))
    pin = locked.revision if locked else wanted.revision or shipped_revisions().get(wanted.name)
    pinned_by: Literal["lock", "profile", "namepin", "hub"] = (
        "lock" if locked else "profile" if wanted.revision else "namepin" if pin else "hub"
    )
    if hub.offline:
        return _offline(hub, wanted, locked)
    commit = pin if pin and len(pin) == 40 else commit_of(hub, wanted.name, pin)
    files = tuple(_needed(list_files(hub, wanted.name, commit), wanted))
    if not files:
        what = f"{wanted.name} has no {wanted.file or 'safetensors and no pytorch_model.bin'} at {commit[:12]}"
        raise NamepinError("E223", what, mend="check the name and the revision", exit_code=Exit.UNREACHABLE)
    missing = tuple(file for file in files if cached_file(hub, wanted.name, commit, file) is None)
    resumed = sum(arrived(hub, wanted.name, file) for file in missing)
    return Repository(wanted, commit, pinned_by, files, missing, resumed)


def _offline(hub: Hub, wanted: Wanted, locked: LockedRepository | None) -> Repository:
    """A locked repository whose files are all in the cache.

    Raises:
        NamepinError: E224 for any other.
    """
    files = tuple(HubFile(path, file.size, "", file.sha256) for path, file in locked.files.items()) if locked else ()
    commit = locked.revision if locked else ""
    missing = [file.path for file in files if cached_file(hub, wanted.name, commit, file) is None]
    if not files or missing:
        lacking = missing[0] if missing else "the repository"
        what = f"{lacking} is not on this machine, and offline mode is on (HF_HUB_OFFLINE)"
        mend = "unset it where there is a network, or copy the hub's cache and the lock here"
        raise NamepinError("E224", what, where=wanted.name, mend=mend, exit_code=Exit.UNREACHABLE)
    return Repository(wanted, commit, "lock", files, ())


def _needed(files: Sequence[HubFile], wanted: Wanted) -> Iterator[HubFile]:
    """As `namepin.tools.loading.pretrained.locate` chooses: safetensors where there are any."""
    if wanted.file:
        yield from (file for file in files if file.path == wanted.file)
        return
    tensors = [[file for file in files if fnmatch(file.path, kind)] for kind in (SAFETENSORS, PICKLED)]
    chosen = next(filter(None, tensors), [])
    if wanted.weights and not chosen:
        return
    yield from (file for file in files if any(fnmatch(file.path, kind) for kind in BESIDE_WEIGHTS))
    yield from chosen if wanted.weights else ()


def pull(hub: Hub, planned: Plan, progress: Progress) -> None:
    """Fetch what is missing, check everything, and record it in the lock.

    Raises:
        NamepinError: E222 to E224 where the hub does not give a file, E225 for too small a disk, E226 for other bytes
            than listed or locked.
    """
    needed = planned.download
    if needed and needed + SPARE_BYTES > planned.free:
        what = f"{gigabytes(needed)} to fetch, and only {gigabytes(planned.free)} free"
        mend = "free disk space, or set HF_HOME to a folder on a larger disk"
        raise NamepinError("E225", what, where=str(hub.cache), mend=mend)
    for repository in planned.repositories:
        progress.repository(repository)
        _pull_one(hub, repository, progress.advance)


def _pull_one(hub: Hub, repository: Repository, advance: Advance) -> None:
    name, commit = repository.wanted.name, repository.commit
    present = [file for file in repository.files if file not in repository.missing]
    damaged = [file for file in present if not _is_intact(hub, repository, file)]
    if damaged and hub.offline:
        what = f"{damaged[0].path} is damaged, and offline mode is on (HF_HUB_OFFLINE)"
        raise NamepinError("E211", what, where=name, mend=f"run `namepin pull {name}` where there is a network")
    for file in damaged:
        drop(hub, name, commit, file)
    if hub.offline:
        return
    folder = fetch(hub, name, commit, repository.files, advance)
    files = {file.path: LockedFile(size=file.size, sha256=_sha256(folder, file)) for file in repository.files}
    _record(repository, files)
    if repository.wanted.file and repository.wanted.into:
        _link(folder / repository.wanted.file, repository.wanted.into)


def _is_intact(hub: Hub, repository: Repository, file: HubFile) -> bool:
    path = cached_file(hub, repository.wanted.name, repository.commit, file)
    return path is not None and intact(path, file)


def _sha256(folder: Path, file: HubFile) -> str:
    return file.sha256 or file_sha256(folder / file.path)


def _record(repository: Repository, files: Mapping[str, LockedFile]) -> None:
    """Add the repository to the lock.

    Raises:
        NamepinError: E226 where the lock has other bytes for the same commit, which cannot be of the same origin.
    """
    path, key = lock_path(), lock_key(repository.wanted.name, repository.wanted.revision)
    path.parent.mkdir(parents=True, exist_ok=True)
    with client_utils().WeakFileLock(path.with_name(f".{path.name}.lock")):
        known = dict(read_lock(path))
        before = known.get(key)
        if before and before.revision == repository.commit:
            changed = [name for name, file in files.items() if before.files.get(name, file) != file]
            if changed:
                what = f"{changed[0]} of {repository.wanted.name} has other bytes than the lock says for this commit"
                mend = f"distrust this endpoint; if you trust it, delete the entry in {path}"
                raise NamepinError("E226", what, where=str(path), mend=mend, exit_code=Exit.UNREACHABLE)
            files = {**before.files, **files}
        known[key] = LockedRepository(revision=repository.commit, files=files)
        write_lock(path, known)


def _link(source: Path, into: Path) -> None:
    """Make a file of the cache available at the path that the profile names."""
    if into.exists():
        return
    into.parent.mkdir(parents=True, exist_ok=True)
    into.symlink_to(source.resolve())


def _free(cache: Path) -> int:
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    return disk_usage(existing).free


def gigabytes(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.2f} GB" if count >= 10_000_000 else f"{count / 1e6:.2f} MB"
