"""The graph in stages: each process has the tools of one stage, and a post passes through all of them in turn.

A graph calls its roles in a fixed order (`namepin.graphs.calls.ROLES`), so neighbours of one kind form a stage: text on
CPUs, vision on GPUs, models behind a server. Every stage runs the post through the whole graph. Calls of earlier stages
are answered from the record that travels with the post, as in a replay. At the first call to a later stage's tool the
run stops and the post is passed on. So graphs need no code for stages, and the results equal those of one process.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal, cast

from namepin.agent.api import Namepin
from namepin.agent.batch.local_engine import decode_row
from namepin.agent.batch.source import Row
from namepin.agent.batch.writing import has_picture
from namepin.agent.config.build import batched_calls, build_tools
from namepin.agent.config.settings import Settings
from namepin.agent.posts import Ready
from namepin.graphs.batched_calls import MEMBER, Member, PostGroup
from namepin.graphs.calls import Calls
from namepin.graphs.recording.cassette import Call, PostLine, PostRecord, call_key
from namepin.graphs.recording.recorder import RecordingCalls
from namepin.graphs.roles import ROLES
from namepin.graphs.run import extract_post, failed_extraction
from namepin.tools.errors import NamepinError, ToolUnavailable, coded_error
from namepin.tools.llm.config import ChatConfig
from namepin.tools.llm.usage import Usage
from namepin.tools.media import Media
from namepin.tools.types import Extraction, Frozen, ImageRef, Notice, Post

Kind = Literal["text", "vision", "llm"]
_TEXT = frozenset({"examples", "knowledge", "tagger", "expansion"})
_DECODERS = 4


@dataclass(frozen=True)
class Stage:
    """Neighbouring roles of one kind. `llm` is for tools that call a chat model's server and need no machine."""

    kind: Kind
    roles: tuple[str, ...]


def stages_of(settings: Settings) -> tuple[Stage, ...]:
    """The stages of a profile, in the order of the graph; at least one."""
    stages: list[Stage] = []
    for role in (role for role in ROLES if role in settings.tools):
        tool = settings.tools[role]
        kind: Kind = "text" if role in _TEXT or (role, tool.backend) == ("reranker", "text") else "vision"
        if isinstance(tool.config, ChatConfig):
            kind = "llm"
        if stages and stages[-1].kind == kind:
            stages[-1] = Stage(kind, (*stages[-1].roles, role))
        else:
            stages.append(Stage(kind, (role,)))
    return tuple(stages) or (Stage("text", ()),)


@dataclass
class Passage:
    """A row of the input that passes through the stages.

    Attributes:
        number: the row's number.
        where: the row's file and line.
        post: the row's post; None if the row is not a post.
        failure: the reason why the row is not a post, or why its post failed.
        picture: the row's picture.
        group: number of the group of rows that it shares tool calls with.
        due: whether the row is to be written; False for a finished row of a group that is processed again.
        ready: the post with its cleaned text, after the first stage.
        image: its picture by content.
        notices: warnings from the preparation.
        calls: the requests and answers so far.
        blobs: data that the answers name by key.
        timings_ms: times of the stages so far.
        usage: what model servers counted in the stages so far.
        extraction: the result; None before the end. Its fingerprint is set at the end, when all tools are known.
        fingerprints: role -> fingerprint, for the stages so far.
        refused: the reason why a stage's tools cannot be built, which ends the run.
    """

    number: int
    where: str
    post: Post | None
    failure: NamepinError | None = None
    picture: bytes | None = None
    group: int = 0
    due: bool = True
    ready: Post | None = None
    image: ImageRef | None = None
    notices: tuple[Notice, ...] = ()
    calls: list[Call] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    timings_ms: dict[str, float] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    extraction: Extraction | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    refused: NamepinError | None = None

    @classmethod
    def of(cls, row: Row, group: int = 0, due: bool = True) -> "Passage":
        """A row before its first stage."""
        return cls(row.number, row.where, row.post, row.error, row.picture, group, due)

    def row(self) -> Row:
        """The row again."""
        return Row(self.number, self.where, self.post, picture=self.picture)


class _HandedOn(Exception):
    """The graph calls a tool of a later stage."""


class _StagedCalls:
    """Calls the tools of this stage; answers of earlier stages come from the record."""

    def __init__(self, inner: RecordingCalls, roles: Sequence[str], earlier: Mapping[str, str]) -> None:
        self._inner, self._earlier = inner, earlier
        own = inner.fingerprints
        # The graph reads the available roles from here; a later stage's fingerprint is not read before the end.
        self._fingerprints = {role: own.get(role) or earlier.get(role, "") for role in roles}

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Role -> fingerprint; empty for tools of later stages."""
        return self._fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`."""
        if tool in self._inner.fingerprints:
            return await self._inner.call(tool, request, media)
        if tool not in self._earlier:
            raise _HandedOn
        asked = request.model_dump(mode="json")
        call = self._inner.record.calls[call_key(tool, self._earlier[tool], asked)]
        if call.failure is not None:
            raise ToolUnavailable(tool, call.failure)
        return cast(Frozen, ROLES[tool].result.model_validate(call.result))


class StageWorker:
    """One process of a stage: its tools, built once, and the run through the graph.

    Args:
        settings: the whole profile.
        stage: the stage of this process.
        at_once: number of posts with pictures, or in groups of their own, in progress at a time.

    Raises:
        NamepinError: E21x, E30x when a tool of the stage cannot start.
    """

    def __init__(self, settings: Settings, stage: Stage, at_once: int = 16) -> None:
        own = {role: settings.tools[role] for role in stage.roles}
        self.stage, self.at_once = stage, at_once
        self.calls = batched_calls(settings, build_tools(settings.model_copy(update={"tools": own})))
        self.pin = Namepin(settings, self.calls)

    def run(self, passages: Sequence[Passage]) -> list[Passage]:
        """Run the posts through this stage concurrently; returns them in the same order.

        Passages of one group are consecutive, and all are given in one call.
        """

        async def all_of_them() -> list[Passage]:
            turns, decoders = asyncio.Semaphore(self.at_once), asyncio.Semaphore(_DECODERS)

            async def one(passage: Passage, member: Member) -> Passage:
                MEMBER.set(member)  # in this task's own context
                try:
                    waits = has_picture(passage.row()) or len(member.group) == 1
                    async with turns if waits else nullcontext():
                        return await self._walk(passage, decoders)
                finally:
                    member.leave()

            walks = list[Coroutine[Any, Any, Passage]]()
            for _, group in groupby(passages, key=lambda passage: passage.group):
                together = list(group)
                shared = PostGroup(len(together))
                walks += [one(passage, Member(shared, number)) for number, passage in enumerate(together)]
            return list(await asyncio.gather(*walks))

        return asyncio.run(all_of_them())

    async def _walk(self, passage: Passage, decoders: asyncio.Semaphore) -> Passage:
        earlier = dict(passage.fingerprints)
        passage = replace(passage, fingerprints=earlier | dict(self.calls.fingerprints))
        if passage.post is None or passage.extraction is not None or passage.refused is not None:
            return passage
        try:
            ready = await self._ready(passage, decoders)
            return await self._through_graph(passage, ready, earlier)
        except Exception as error:  # one post never ends a batch
            failed = failed_extraction(passage.post, None, error, "")
            return _finish(passage, failed, coded_error(error))

    async def _ready(self, passage: Passage, decoders: asyncio.Semaphore) -> Ready:
        """The post as prepared by the first stage; later stages only decode its picture again, if there is one."""
        if passage.ready is None:
            return await decode_row(self.pin, passage.row(), decoders)
        if passage.image is None:
            return Ready(passage.ready, None, passage.notices)
        again = await decode_row(self.pin, passage.row(), decoders)
        if again.image != passage.image:
            raise NamepinError("E120", "the picture changed between two stages", where=str(passage.ready.image))
        return Ready(passage.ready, again.picture, passage.notices)

    async def _through_graph(self, passage: Passage, ready: Ready, earlier: Mapping[str, str]) -> Passage:
        record = PostRecord(PostLine(post=ready.post, image=ready.image, notices=ready.notices, setup=""))
        for call in passage.calls:
            record.add(call)
        context = self.pin.context(ready)
        context.usage.add(passage.usage)
        blobs = dict(passage.blobs)
        context.media.blobs.update(blobs)
        context.calls = _StagedCalls(
            RecordingCalls(cast(Calls, self.calls), record, blobs), tuple(self.pin.settings.tools), earlier
        )
        try:
            notices = (*ready.notices, *self.pin.unused)
            found = await extract_post(self.pin.graph, ready.post, ready.image, context, notices=notices)
        except _HandedOn:
            measured = {role: ms for role, ms in context.timings_ms().items() if role in passage.fingerprints}
            return replace(
                passage,
                ready=ready.post,
                image=ready.image,
                notices=ready.notices,
                calls=list(record.calls.values()),
                blobs=blobs,
                timings_ms=_timings(measured, passage.timings_ms),
                usage=context.usage,
            )
        timings = _timings(found.timings_ms, passage.timings_ms)
        return _finish(passage, found.model_copy(update={"timings_ms": timings}), None)


def _timings(measured: Mapping[str, float], earlier: Mapping[str, float]) -> dict[str, float]:
    """Merge the times: a tool's time is measured in the stage that ran it, not where the record answers."""
    return {role: earlier.get(role, ms) for role, ms in measured.items()}


def _finish(passage: Passage, extraction: Extraction, failure: NamepinError | None) -> Passage:
    return replace(passage, extraction=extraction, failure=failure, picture=None, calls=[], blobs={}, timings_ms={})
