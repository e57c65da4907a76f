"""The cassette: what was recorded of some posts, as files that move between machines.

    DIR/manifest.json     format, and the setups (profile, policy, tools' fingerprints) that the posts refer to
    DIR/cassette.jsonl    per post, in order: one `post` line, its `call` lines, its `step` lines, one `result` line
    DIR/blobs/SHA256      bulky bytes that results name by key (heat maps)

No line names a path or depends on timing: calls are sorted, steps are in the order of the graph, and posts in the
order in which their recording began. Pixels are not kept. Every file is replaced atomically.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from namepin.graphs.roles import ROLES
from namepin.graphs.state import Json
from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write
from namepin.tools.jsonl import dump_json, dump_line, parse_json, read_lines, reason
from namepin.tools.types import Extraction, Frozen, ImageRef, Notice, Post

FORMAT = 1
MANIFEST, LINES, BLOBS = "manifest.json", "cassette.jsonl", "blobs"

MAX_BYTES = 2**30
"""Of a line: a whole state with its masks."""

Line = TypeVar("Line", bound=Frozen)


class Setup(Frozen):
    """What posts were recorded with.

    Attributes:
        graph: name and version of the graph (`gem-2`).
        profile: the resolved profile, for people and for `--fill`; replay itself does not read it.
        policy: the graph's policy.
        requested: roles the user had asked for by name.
        tools: role -> fingerprint of the tool that filled it.
    """

    graph: str
    profile: Mapping[str, Any]
    policy: Json
    requested: tuple[str, ...]
    tools: Mapping[str, str]


class PostLine(Frozen):
    """A post, without its picture's path, and how it was loaded."""

    post: Post
    image: ImageRef | None
    notices: tuple[Notice, ...]
    setup: str


class Call(Frozen):
    """One tool call. Exactly one of `result` and `failure` is given; `blobs` are the keys that the result names."""

    tool: str
    fingerprint: str
    request: Json
    result: Json | None = None
    failure: str | None = None
    blobs: tuple[str, ...] = ()


class Step(Frozen):
    """The state after one superstep: who ran, the digest of the whole state, and the channels that changed."""

    ran: tuple[str, ...]
    digest: str
    changed: Json


def call_key(tool: str, fingerprint: str, request: Json) -> str:
    """What a call is found by."""
    return digest({"tool": tool, "fingerprint": fingerprint, "request": request})


@dataclass
class PostRecord:
    """All that is known of one post; `calls` by `call_key`."""

    line: PostLine
    steps: list[Step] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    result: Extraction | None = None

    def add(self, call: Call) -> None:
        """Keep a call; the same call made again replaces it (an attempt that failed, then one that did not)."""
        self.calls[call_key(call.tool, call.fingerprint, call.request)] = call

    def part_of_batch(self, tool: str, fingerprint: str, request: Json) -> Call | None:
        """An answer put together from a recorded call about the same picture that asked for these items, and more."""
        items = ROLES[tool].items
        if items is None:
            return None
        asked_field, answer_field = items
        for call in self.calls.values():
            if (call.tool, call.fingerprint) != (tool, fingerprint) or call.result is None:
                continue
            asked, answers = call.request[asked_field], call.result[answer_field]
            whole = {**request, asked_field: asked}
            if whole == call.request and all(item in asked for item in request[asked_field]):
                chosen = [answers[asked.index(item)] for item in request[asked_field]]
                return call.model_copy(update={"request": request, "result": {**call.result, answer_field: chosen}})
        return None

    def lines(self) -> Iterator[Json]:
        """The post's lines, in the order of the file."""
        key = {"id": self.line.post.id}
        yield {"kind": "post", **key, **self.line.model_dump(mode="json")}
        roles = list(ROLES)
        for _, call in sorted(self.calls.items(), key=lambda item: (roles.index(item[1].tool), item[0])):
            yield {"kind": "call", **key, **call.model_dump(mode="json", exclude_defaults=True)}
        for step in self.steps:
            yield {"kind": "step", **key, **step.model_dump(mode="json")}
        if self.result is not None:
            yield {"kind": "result", **key, "extraction": parse_json(self.result.to_json())}


@dataclass
class Cassette:
    """Recorded posts by id, in order, and the setups they refer to by digest."""

    setups: dict[str, Setup] = field(default_factory=dict)
    posts: dict[str, PostRecord] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path) -> "Cassette":
        """Read a cassette.

        Raises:
            NamepinError: E401 when there is none, or it is damaged or of another format.
        """
        manifest = _manifest(directory)
        cassette = cls()
        try:
            cassette.setups = {key: Setup.model_validate(value) for key, value in manifest["setups"].items()}
        except (KeyError, AttributeError, ValidationError) as error:
            raise _damaged(directory / MANIFEST, "its setups cannot be read") from error
        for line in read_lines(_read_bytes(directory / LINES), MAX_BYTES):
            try:
                cassette._take(line.parse_object())
            except (ValueError, KeyError, TypeError) as error:  # pydantic's ValidationError is a ValueError
                raise _damaged(directory / LINES, f"line {line.number} cannot be read: {reason(error)}") from error
        for record in cassette.posts.values():
            if record.result is None or record.line.setup not in cassette.setups:
                raise _damaged(directory / LINES, f"post {record.line.post.id!r} is incomplete")
            for key in (key for call in record.calls.values() for key in call.blobs):
                cassette.blobs[key] = _read_bytes(directory / BLOBS / key)
        return cassette

    def _take(self, line: Json) -> None:
        kind, post_id = line.pop("kind"), line.pop("id")
        if kind == "post":
            self.posts[post_id] = PostRecord(PostLine.model_validate(line))
        elif kind == "call":
            self.posts[post_id].add(Call.model_validate(line))
        elif kind == "step":
            self.posts[post_id].steps.append(Step.model_validate(line))
        elif kind == "result":
            self.posts[post_id].result = Extraction.model_validate(line["extraction"])
        else:
            raise ValueError(f"unknown kind of line {kind!r}")

    def save(self, directory: Path) -> None:
        """Write everything; what no post refers to any more is dropped.

        Raises:
            NamepinError: E501 when the folder cannot be written.
        """
        used = {record.line.setup for record in self.posts.values()}
        self.setups = {key: setup for key, setup in self.setups.items() if key in used}
        keys = {key for record in self.posts.values() for call in record.calls.values() for key in call.blobs}
        lines = (_dumped(line) for record in self.posts.values() for line in record.lines())
        manifest: Json = {"format": FORMAT, "setups": {k: self.setups[k].model_dump(mode="json") for k in sorted(used)}}
        try:
            (directory / BLOBS).mkdir(parents=True, exist_ok=True)
            for key in keys:
                if not (directory / BLOBS / key).exists():
                    atomic_write(directory / BLOBS / key, self.blobs[key])
            # Old setups stay until the lines that refer to them are gone, so that a crash in between loses nothing.
            old = _manifest(directory)["setups"] if (directory / MANIFEST).exists() else {}
            if old.keys() - used:
                atomic_write(directory / MANIFEST, _pretty({**manifest, "setups": old | manifest["setups"]}))
                atomic_write(directory / LINES, lines)
                atomic_write(directory / MANIFEST, _pretty(manifest))
            else:
                atomic_write(directory / MANIFEST, _pretty(manifest))
                atomic_write(directory / LINES, lines)
            for stale in {path.name for path in (directory / BLOBS).iterdir()} - keys:
                (directory / BLOBS / stale).unlink()
        except OSError as error:
            what = f"the cassette cannot be written: {error.strerror or error}"
            raise NamepinError("E501", what, where=str(directory), mend="name a folder you can write to") from error


def check_cassette(directory: Path) -> None:
    """Fail where there is no cassette that this version reads; only its manifest is looked at.

    Raises:
        NamepinError: E401.
    """
    _manifest(directory)


def _manifest(directory: Path) -> Json:
    try:
        manifest = parse_json(_read_bytes(directory / MANIFEST))
    except ValueError as error:
        raise _damaged(directory / MANIFEST, f"it is {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise _damaged(directory / MANIFEST, f"its format is {found!r}, this version reads {FORMAT}")
    return manifest


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        what = f"not a cassette: {path.name} cannot be read"
        mend = "name a folder that `namepin extract --record` has written"
        raise NamepinError("E401", what, where=str(path), mend=mend) from error


def _damaged(path: Path, what: str) -> NamepinError:
    return NamepinError("E401", f"the cassette is damaged: {what}", where=str(path), mend="record it again")


def _dumped(line: Json) -> bytes:
    # Keys keep their order: results hold mappings, such as scores, whose order is part of the answer.
    return dump_line(line, compact=True)


def _pretty(manifest: Json) -> bytes:
    return dump_json(manifest, indent=1, sort_keys=True).encode() + b"\n"
