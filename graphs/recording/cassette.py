"""The cassette: recorded runs of posts, as files that work on any machine.

    DIR/manifest.json     format, and the setups (profile, policy, fingerprints of the tools) that the posts refer to
    DIR/cassette.jsonl    per post, in order: one `post` line, its `call` lines, its `step` lines, one `result` line;
                          then one `end` line for all
    DIR/blobs/SHA256      large bytes that results name by key (heat maps)

No line holds a path or depends on timing: calls are sorted, steps are in the order of the graph, and posts are in the
order in which their recording began. Pixels are not stored. Every file is replaced atomically and covered by a digest
(`namepin.graphs.recording.cassette_files`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from namepin.graphs.policy import Policy
from namepin.graphs.recording import cassette_files as files
from namepin.graphs.recording.cassette_files import LINES, MANIFEST, file_error
from namepin.graphs.roles import ROLES
from namepin.graphs.state import Json
from namepin.tools.base import digest
from namepin.tools.jsonl import dump_line, parse_json, reason
from namepin.tools.types import Extraction, Frozen, ImageRef, Notice, Post

Line = TypeVar("Line", bound=Frozen)


class Setup(Frozen):
    """The setup that posts were recorded with.

    Attributes:
        graph: name and version of the graph (`gem-2`).
        profile: the resolved profile, for readers and for `--fill`; replay itself does not read it.
        policy: the graph's policy.
        requested: roles that the user asked for by name.
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
    """The state after one superstep: the nodes that ran, the digest of the whole state, and the changed channels."""

    ran: tuple[str, ...]
    digest: str
    changed: Json


def call_key(tool: str, fingerprint: str, request: Json) -> str:
    """The key that finds a call."""
    return digest({"tool": tool, "fingerprint": fingerprint, "request": request})


@dataclass
class PostRecord:
    """Everything recorded about one post; `calls` by `call_key`."""

    line: PostLine
    steps: list[Step] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    result: Extraction | None = None

    def add(self, call: Call) -> None:
        """Record a call. A repeated call replaces the earlier one, as when a retry succeeds."""
        self.calls[call_key(call.tool, call.fingerprint, call.request)] = call

    def part_of_batch(self, tool: str, fingerprint: str, request: Json) -> Call | None:
        """An answer from a part of a recorded call: one about the same picture whose items include all of these."""
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
        setups, cassette = files.read_manifest(directory), cls()
        try:
            cassette.setups = {key: _usable(Setup.model_validate(value)) for key, value in setups.items()}
        except (ValueError, TypeError) as error:  # pydantic's ValidationError is a ValueError
            raise file_error(directory / MANIFEST, "its setups cannot be read") from error
        for number, data in enumerate(files.read_lines_of(directory), 1):
            try:
                cassette._take(parse_json(data))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise file_error(directory / LINES, f"line {number} cannot be read: {reason(error)}") from error
        for record in cassette.posts.values():
            if record.result is None or record.line.setup not in cassette.setups:
                raise file_error(directory / LINES, f"post {record.line.post.id!r} is incomplete")
            for key in (key for call in record.calls.values() for key in call.blobs):
                cassette.blobs[key] = files.read_blob(directory, key)
        return cassette

    def _take(self, line: Json) -> None:
        kind, post_id = line.pop("kind"), line.pop("id")
        if kind == "post":
            record = PostRecord(PostLine.model_validate(line))
            if record.line.post.id != post_id or post_id in self.posts:
                raise ValueError("a post of another id, or a repeated one")
            self.posts[post_id] = record
        elif kind == "call":
            self.posts[post_id].add(_answerable(Call.model_validate(line)))
        elif kind == "step":
            self.posts[post_id].steps.append(Step.model_validate(line))
        elif kind == "result":
            self.posts[post_id].result = Extraction.model_validate(line["extraction"])
        else:
            raise ValueError(f"unknown kind of line {kind!r}")

    def save(self, directory: Path) -> None:
        """Write everything, except setups and blobs that no post refers to.

        Raises:
            NamepinError: E401 when a file of the folder is a link or damaged, E501 when it cannot be written.
        """
        used = {record.line.setup for record in self.posts.values()}
        self.setups = {key: setup for key, setup in self.setups.items() if key in used}
        keys = {key for record in self.posts.values() for call in record.calls.values() for key in call.blobs}
        lines = (_dump(line) for record in self.posts.values() for line in record.lines())
        setups = {key: setup.model_dump(mode="json") for key, setup in self.setups.items()}
        files.write_files(directory, setups, lines, {key: self.blobs[key] for key in sorted(keys)})

    def add_to(self, directory: Path, *, write: bool = True) -> None:
        """Add these posts to the cassette in a folder. They replace posts of the same ids; other posts stay.

        Args:
            directory: the folder, created if missing.
            write: False only checks that the folder can be written to, and that its cassette is whole.

        Raises:
            NamepinError: E401 when the folder holds a damaged cassette, E501 when it cannot be written.
        """
        with files.hold_lock(directory):
            old = Cassette.load(directory) if (directory / MANIFEST).exists() else Cassette()
            old.posts |= self.posts
            old.setups |= self.setups
            old.blobs |= self.blobs
            if write:
                old.save(directory)


def _usable(setup: Setup) -> Setup:
    Policy.model_validate(setup.policy)
    return setup


def _answerable(call: Call) -> Call:
    """The call, after checking that its answer is valid for the graph.

    Raises:
        ValueError, KeyError: when it is not valid.
    """
    role = ROLES[call.tool]
    role.request.model_validate(call.request)
    if (call.result is None) == (call.failure is None):
        raise ValueError("a call has either a result or a failure")
    if call.result is not None:
        role.result.model_validate(call.result)
    return call


def check_cassette(directory: Path) -> None:
    """Check that a folder holds a cassette of a known format. Only the manifest is read.

    Raises:
        NamepinError: E401 when it does not.
    """
    files.read_manifest(directory)


def _dump(line: Json) -> bytes:
    # Keys keep their order: results hold mappings, such as scores, whose order is part of the answer.
    return dump_line(line, compact=True)
