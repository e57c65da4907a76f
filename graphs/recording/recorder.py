"""Recording: observes posts on their way through a graph, and stores what a replay needs.

with Recorder(directory, graph=graph.name, profile=profile) as recorder:
context = recorder.listen(context, post, image, notices)
extraction = await extract_post(graph, post, image, context, notices=notices)
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

from namepin.graphs.calls import Calls
from namepin.graphs.context import Context
from namepin.graphs.recording.cassette import Call, Cassette, PostLine, PostRecord, Setup, Step
from namepin.graphs.state import PostState
from namepin.tools.base import canonical_json, digest
from namepin.tools.errors import ToolUnavailable
from namepin.tools.media import Media
from namepin.tools.redaction import without_credentials
from namepin.tools.types import Extraction, Frozen, ImageRef, Notice, Post


class Tape:
    """The `Watch` of one post: its steps and its result, as they happen."""

    def __init__(self, record: PostRecord) -> None:
        self.record = record
        self._channels: dict[str, str] = {}
        self._taken = 0

    def state(self, state: PostState) -> None:
        """See `Watch.state`: records the nodes that ran and the channels that changed."""
        channels = {name: canonical_json(value) for name, value in state.items()}
        changed = {name: state.get(name) for name in sorted(channels) if channels[name] != self._channels.get(name)}
        ran, self._taken, self._channels = state["path"][self._taken :], len(state["path"]), channels
        self.record.steps.append(Step(ran=tuple(ran), digest=digest(state), changed=json.loads(json.dumps(changed))))

    def result(self, extraction: Extraction) -> None:
        """See `Watch.result`."""
        self.record.result = extraction


@dataclass
class RecordingCalls:
    """Forwards calls, and records each answer or failure."""

    inner: Calls
    record: PostRecord
    blobs: dict[str, bytes]

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """The fingerprints of the wrapped calls' tools."""
        return self.inner.fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`."""
        fingerprint = self.fingerprints[tool]
        try:
            result = await self.inner.call(tool, request, media)
        except ToolUnavailable as error:
            asked = request.model_dump(mode="json")
            self.record.add(
                Call(tool=tool, fingerprint=fingerprint, request=asked, failure=without_credentials(error.what))
            )
            raise
        call = record_call(tool, fingerprint, request, result, media)
        self.record.add(call)
        self.blobs.update({key: media.blobs[key] for key in call.blobs})
        return result


def record_call(tool: str, fingerprint: str, request: Frozen, result: Frozen, media: Media) -> Call:
    """A call and its answer, with the blobs that the answer names."""
    answer = result.model_dump(mode="json")
    keys = sorted({text for text in _strings(answer) if text in media.blobs})
    asked = request.model_dump(mode="json")
    return Call(tool=tool, fingerprint=fingerprint, request=asked, result=answer, blobs=tuple(keys))


class Recorder:
    """Records any number of posts at once into one folder. A post replaces an earlier one of the same id.

    Nothing is written before `save`. The end of the `with` block calls it, also after an error. A post whose run
    raised is left out.

    Args:
        directory: the cassette's folder, created if missing.
        graph: the graph's name, with its version.
        profile: the resolved profile as plain JSON values. It must hold no secrets and no absolute paths, since it is
            written unchanged.
    """

    def __init__(self, directory: Path, *, graph: str, profile: Mapping[str, Any]) -> None:
        self.directory, self.graph, self.profile = directory, graph, dict(profile)
        self._begun: list[tuple[PostRecord, Setup]] = []
        self._blobs: dict[str, bytes] = {}

    def check(self) -> None:
        """Find faults of the folder before the slow work; a folder that was not there is then there, and empty.

        Raises:
            NamepinError: as `save`.
        """
        Cassette().add_to(self.directory, write=False)

    def listen(self, context: Context, post: Post, image: ImageRef | None, notices: Sequence[Notice] = ()) -> Context:
        """A context for this post's run that records everything.

        Posts are stored in the order of these calls, independent of when their runs end.
        """
        setup = Setup(
            graph=self.graph,
            profile=self.profile,
            policy=context.policy.model_dump(mode="json"),
            requested=tuple(sorted(context.requested)),
            tools=dict(context.calls.fingerprints),
        )
        named = post.model_copy(update={"image": PurePath(post.image).name if post.image else None})
        record = PostRecord(PostLine(post=named, image=image, notices=tuple(notices), setup=digest(setup)))
        self._begun.append((record, setup))
        return replace(context, calls=RecordingCalls(context.calls, record, self._blobs), watch=Tape(record))

    def save(self) -> None:
        """Add the finished posts to the cassette in the folder.

        Raises:
            NamepinError: E401 when the folder holds a damaged cassette, E501 when it cannot be written.
        """
        recorded = Cassette(blobs=self._blobs)
        for record, setup in self._begun:
            if record.result is not None:
                recorded.posts[record.line.post.id] = record
                recorded.setups[record.line.setup] = setup
        recorded.add_to(self.directory)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
