"""Replay: runs the graph again and answers every tool call from a cassette. It builds no tool and reads no picture.

    replay(directory)                               the recorded posts' Extractions, recorded timings included
    replay(directory, check=True)                   the same, but raises E403 (exit code 4) at the first divergence
    replay(directory, sets={"gate.gamma": 0.4})     what if: another policy over the same calls
    replay(directory, sets=..., tools=build_tool)   ... and make and record the missing calls (`--fill`)

`tools` is called with a role's name and returns the tool of the recorded profile, overrides applied; `media` is called
with the post (its `image` is a bare file name) and its `ImageRef`, and returns the pixels, which a cassette lacks.
A call that the cassette lacks raises E402 where `tools` is None. An override of a tool's setting
(`matcher.min_score=0.4`) makes it a different tool, without recorded calls. `ROLE.backend=off` removes the tool.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from namepin.graphs.calls import AnyTool, LiveCalls
from namepin.graphs.context import Context
from namepin.graphs.policy import Policy
from namepin.graphs.recording.cassette import Cassette, PostRecord, Setup, call_key
from namepin.graphs.recording.divergence import first_difference, shorten, unexpected_call
from namepin.graphs.recording.overrides import Overrides
from namepin.graphs.recording.recorder import Tape, record_call
from namepin.graphs.registry import GRAPHS
from namepin.graphs.roles import ROLES
from namepin.graphs.run import extract_post
from namepin.graphs.state import Json
from namepin.graphs.text_nodes import Graph
from namepin.tools.errors import Exit, NamepinError, ToolUnavailable
from namepin.tools.media import Media
from namepin.tools.types import Extraction, Frozen, ImageRef, Post

ToolFactory = Callable[[str], AnyTool]
MediaFactory = Callable[[Post, ImageRef], Media]


def replay(
    directory: Path,
    *,
    check: bool = False,
    sets: Mapping[str, Any] | None = None,
    tools: ToolFactory | None = None,
    media: MediaFactory | None = None,
) -> Iterator[Extraction]:
    """Replay the recorded posts, one after the other; see the module's docstring for the arguments.

    Do not call it inside a running event loop: use `areplay` there.

    Raises:
        NamepinError: E401 without a cassette, E402 for a missing call, E403 for a divergence (with `check`), E404 for
            an invalid override, E405 for a tool that is not the recorded one, E406 when a tool needs the picture.
    """
    with asyncio.Runner() as runner:
        stream = areplay(directory, check=check, sets=sets, tools=tools, media=media)

        async def following() -> Extraction | None:
            return await anext(stream, None)

        while (extraction := runner.run(following())) is not None:
            yield extraction


async def areplay(
    directory: Path,
    *,
    check: bool = False,
    sets: Mapping[str, Any] | None = None,
    tools: ToolFactory | None = None,
    media: MediaFactory | None = None,
) -> AsyncIterator[Extraction]:
    """`replay`, for use inside an event loop."""
    cassette = Cassette.load(directory)
    overrides = Overrides.of(sets or {})
    filler = _Filler(tools, media) if tools else None
    graphs: dict[str, Graph] = {}
    try:
        for record in cassette.posts.values():
            setup = cassette.setups[record.line.setup]
            if setup.graph not in graphs:
                graphs[setup.graph] = _graph(setup.graph)
            calls = ReplayedCalls(record, setup, overrides, filler)
            blobs = {key: cassette.blobs[key] for call in record.calls.values() for key in call.blobs}
            policy = overrides.policy_over(setup.policy)
            yield await _replay_post(graphs[setup.graph], calls, policy, Media(blobs=blobs), check)
    finally:
        if filler and filler.blobs is not None:
            cassette.blobs |= filler.blobs
            cassette.add_to(directory)


class _Filler:
    """Makes the calls that a cassette lacks. Tools are built only when they are needed.

    `blobs` holds the blobs of those calls. It is None until the first call.
    """

    def __init__(self, tools: ToolFactory, media: MediaFactory | None) -> None:
        self._build, self._media = tools, media
        self._built: dict[str, AnyTool] = {}
        self.blobs: dict[str, bytes] | None = None

    def fingerprint(self, role: str) -> str:
        """The fingerprint of this role's tool in the overridden profile."""
        return self._tool(role).fingerprint

    def _tool(self, role: str) -> AnyTool:
        if role not in self._built:
            self._built[role] = self._build(role)
        return self._built[role]

    async def call(self, record: PostRecord, role: str, fingerprint: str, request: Frozen, media: Media) -> Frozen:
        """Make a call and add it to the record. A failed call is not recorded, so the next `--fill` tries it again.

        Raises:
            NamepinError: E405 when the tool is not the one with this fingerprint, E406 when it needs the picture.
        """
        if self.fingerprint(role) != fingerprint:
            mend = "record again, or give the recorded tool's weights and settings"
            raise NamepinError("E405", "this tool is not the one that was recorded", where=role, mend=mend)
        post, image = record.line.post, record.line.image
        if image is not None and getattr(request, "image", None) == image and image.sha256 not in media.images:
            if self._media is None:
                what = f"the {role} needs the picture, which a cassette does not hold"
                raise NamepinError("E406", what, where=f"post {post.id!r}", mend="give the path of the picture")
            media.images = self._media(post, image).images
        result = await LiveCalls({role: self._tool(role)}).call(role, request, media)
        call = record_call(role, fingerprint, request, result, media)
        record.add(call)
        self.blobs = (self.blobs or {}) | {key: media.blobs[key] for key in call.blobs}
        return result


class LackingCall(NamepinError):
    """E402: the graph made a call that the cassette lacks.

    With overrides this is expected, and the user can fix it. Without overrides, the graph is not the recorded one.
    """

    def __init__(self, tool: str, request: Json, post_id: str, *, what_if: bool) -> None:
        self.tool, self.request = tool, request
        named = {name: value for name, value in request.items() if name not in ("image", "text", "tokens")}
        what = f"the cassette has no such call to the {tool}: {shorten(named)}"
        code = Exit.UNUSABLE if what_if else Exit.DIVERGED
        super().__init__("E402", what, where=f"post {post_id!r}", mend="add --fill to make it now", exit_code=code)


class ReplayedCalls:
    """Answers calls from one post's record; a filler makes the missing ones."""

    def __init__(self, record: PostRecord, setup: Setup, overrides: Overrides, filler: _Filler | None) -> None:
        self.record, self.setup, self._filler = record, setup, filler
        self._what_if = overrides != Overrides.of({})
        unchanged = {role: fingerprint for role, fingerprint in setup.tools.items() if role not in overrides.off}
        changed = {role: filler.fingerprint(role) if filler else "not recorded" for role in overrides.changed}
        known = unchanged | changed
        self._fingerprints = {role: known[role] for role in ROLES if role in known}

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """The recorded fingerprints, except for tools that an override changes."""
        return self._fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`.

        Raises:
            LackingCall: the call was not recorded, and there is no filler.
        """
        asked, fingerprint = request.model_dump(mode="json"), self._fingerprints.get(tool)
        if fingerprint is None:  # an override removed a tool that every graph needs
            raise LackingCall(tool, asked, self.record.line.post.id, what_if=self._what_if)
        call = self.record.calls.get(call_key(tool, fingerprint, asked))
        if call is None and self._what_if:
            call = self.record.part_of_batch(tool, fingerprint, asked)
        if call is None and self._filler is not None:
            return await self._filler.call(self.record, tool, fingerprint, request, media)
        if call is None:
            raise LackingCall(tool, asked, self.record.line.post.id, what_if=self._what_if)
        if call.failure is not None:
            raise ToolUnavailable(tool, call.failure)
        return cast(Frozen, ROLES[tool].result.model_validate(call.result))


async def _replay_post(graph: Graph, calls: ReplayedCalls, policy: Policy, media: Media, check: bool) -> Extraction:
    record, line = calls.record, calls.record.line
    recorded = cast(Extraction, record.result)  # loading has checked that it is there
    tape = Tape(PostRecord(line))
    context = Context(
        calls=calls,
        media=media,
        policy=policy,
        requested=frozenset(calls.setup.requested),
        watch=tape,
    )
    try:
        extraction = await extract_post(graph, line.post, line.image, context, notices=line.notices)
    except LackingCall as error:
        if not check:
            raise
        asked = unexpected_call(record, tape.record, error.tool, error.request)
        raise _divergence_error(line.post.id, first_difference(record, tape.record) or asked) from error
    measured = context.timings_ms()
    timings = {role: ms for role, ms in recorded.timings_ms.items() if role in measured}
    timings |= {role: ms for role, ms in measured.items() if role not in timings}
    extraction = extraction.model_copy(update={"timings_ms": timings, "usage": recorded.usage})
    tape.result(extraction)
    if check and (difference := first_difference(record, tape.record)):
        raise _divergence_error(line.post.id, difference)
    return extraction


def _graph(name: str) -> Graph:
    """The graph, in the version of this program. A difference to the recorded version shows in the fingerprint."""
    kind = name.rpartition("-")[0]
    if kind not in GRAPHS:
        raise NamepinError("E401", f"the cassette was recorded with the unknown graph {name!r}")
    return GRAPHS[kind]()


def _divergence_error(post_id: str, difference: str) -> NamepinError:
    what = f"the replay diverged from the recording at post {post_id!r}, {difference}"
    mend = "fix the change, or record again if it is intended"
    return NamepinError("E403", what, mend=mend, exit_code=Exit.DIVERGED)
