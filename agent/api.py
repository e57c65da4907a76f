"""The Python API: `Namepin` pins the names of posts, one or many, synchronous, asynchronous or streamed."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

from langchain_core.runnables import RunnableConfig

from namepin.agent.config.build import live_calls, policy
from namepin.agent.config.settings import Settings, load_settings
from namepin.agent.posts import AnyPost, Picture, Ready, as_post, ready
from namepin.agent.tracing.runs import is_traced, run_config
from namepin.graphs.calls import Calls
from namepin.graphs.context import Context
from namepin.graphs.recording.recorder import Recorder
from namepin.graphs.registry import GRAPHS, LOOKERS, ROLES_OF
from namepin.graphs.run import failed_extraction, stream_post
from namepin.graphs.step import TOOL_MISSING, StepEvent
from namepin.graphs.text_nodes import Graph
from namepin.tools.concurrency import map_ahead, run_sync
from namepin.tools.media import Media
from namepin.tools.types import Extraction, Notice, Post

if TYPE_CHECKING:
    from namepin.agent.review import OpenSaver, Review


class Namepin:
    """A profile's tools and graph, ready for posts. The tools are built once, at the first post, and then kept.

    Safe to share between threads.

    Args:
        settings: see `namepin.agent.config.settings.load_settings`.
        calls: how the graph calls its tools; None builds the tools of the settings.
        tags: tags of its runs in a trace, besides the profile's name.
    """

    def __init__(self, settings: Settings, calls: Calls | None = None, *, tags: Sequence[str] = ()) -> None:
        self.settings, self.tags = settings, tuple(tags)
        self._calls = calls
        self._building = threading.Lock()

    @classmethod
    def from_profile(cls, profile: str | None = None, /, **overrides: Any) -> Self:
        """A profile by name or path, with overrides: `gate={"gamma": 0.4}`, or `gate__gamma=0.4`.

        Raises:
            NamepinError: E20x, as `load_settings`.
        """
        return cls(load_settings(profile, overrides=overrides))

    @property
    def calls(self) -> Calls:
        """The calls to the tools; the first use builds the tools.

        Raises:
            NamepinError: a tool that the profile requires cannot be built (E21x, E30x).
        """
        with self._building:
            if self._calls is None:
                self._calls = live_calls(self.settings)
            return self._calls

    @cached_property
    def graph(self) -> Graph:
        """The compiled graph."""
        return GRAPHS[self.settings.graph]()

    @cached_property
    def unused(self) -> tuple[Notice, ...]:
        """W102 for a profile of another graph: the unused tools, and the missing tools that look for names.

        A profile with the tools of both graphs gives no warning.
        """
        graph, tools = self.settings.graph, self.settings.tools
        unused = [role for role in tools if role not in ROLES_OF[graph]]
        if not unused or LOOKERS[graph] & tools.keys():
            return ()
        message = (
            f"the graph {graph} does not ask {' and '.join(unused)} of profile {self.settings.profile}, which has no "
            f"{' or '.join(sorted(LOOKERS[graph]))} to look for names; --profile {graph} has its tools"
        )
        return (Notice(code=TOOL_MISSING, tool=unused[0], message=message),)

    def context(self, prepared: Ready) -> Context:
        """A fresh context for one post."""
        picture = prepared.picture
        media = Media(images={picture.ref.sha256: picture.image} if picture else {})
        context = Context(self.calls, media, policy(self.settings), self.settings.requested)
        if is_traced(self.settings.tracing):
            from namepin.agent.tracing.calls import TracedCalls

            context.calls = TracedCalls(context.calls, context.policy)
        return context

    def config(self, prepared: Ready) -> RunnableConfig | None:
        """LangGraph's configuration of a post's run when it is traced.

        Raises:
            NamepinError: E323 when OpenTelemetry is switched on but not installed.
        """
        tracing = self.settings.tracing
        if not is_traced(tracing):
            return None
        pixels = prepared.picture.image if prepared.picture else None
        return run_config(
            tracing,
            profile=self.settings.profile,
            post=prepared.post.id,
            image=prepared.image,
            picture=pixels,
            tags=self.tags,
        )

    def ready(self, post: AnyPost, image: Picture | None = None) -> Ready:
        """Prepare a post for the graph: validate it, clean its text and load its picture.

        Raises:
            NamepinError: E10x for the post, E12x for `image`.
        """
        return ready(as_post(post), image, self.settings.images.max_pixels)

    async def astream(
        self,
        post: AnyPost | Ready,
        image: Picture | None = None,
        *,
        recorder: Recorder | None = None,
        heat: dict[int, bytes] | None = None,
    ) -> AsyncIterator[StepEvent | Extraction]:
        """Stream each step as it begins and ends, then the `Extraction`.

        Args:
            post: see `AnyPost`; or the result of `ready`.
            image: the picture; it must be readable. A picture that the post itself names may be missing (W101).
            recorder: records every tool call and step, for a replay.
            heat: filled with the tracer's heat maps at the end: index of an entity in the result ->
                `namepin.tools.images.heatmap` blob. An `Extraction` does not hold them.

        Raises:
            NamepinError: E10x, E12x for unusable input; E21x, E30x when a required tool cannot start.
        """
        prepared = post if isinstance(post, Ready) else await asyncio.to_thread(self.ready, post, image)
        given, ref, notices = prepared.post, prepared.image, (*prepared.notices, *self.unused)
        context = self.context(prepared)
        if recorder is not None:
            context = recorder.listen(context, given, ref, notices)
        config = self.config(prepared)
        async for event in stream_post(self.graph, given, ref, context, notices=notices, config=config, heat=heat):
            yield event

    async def aextract(
        self, post: AnyPost | Ready, image: Picture | None = None, *, heat: dict[int, bytes] | None = None
    ) -> Extraction:
        """One post's extraction; arguments and errors as `astream`."""
        return cast(Extraction, [event async for event in self.astream(post, image, heat=heat)][-1])

    def extract(self, text: AnyPost | Ready, image: Picture | None = None) -> Extraction:
        """`aextract` for synchronous code; also works inside a running event loop (Jupyter)."""
        return run_sync(self.aextract(text, image))

    async def areview(
        self,
        post: AnyPost | Ready,
        image: Picture | None = None,
        *,
        thread: str | None = None,
        open_saver: "OpenSaver | None" = None,
    ) -> "Review":
        """A run that stops when the gate or the match score is close to its threshold, for a person to decide.

        Args:
            post: see `AnyPost`; or the result of `ready`.
            image: the picture.
            thread: the run's name; by default, derived from the post's id, text and picture.
            open_saver: opens the checkpointer; by default, the conversations' checkpointer (SQLite or PostgreSQL).

        Raises:
            NamepinError: as `astream`; E331, E332 when the checkpointer cannot be opened, E334 when a run of this name
                has another post or other tools.
        """
        from namepin.agent.checkpointer import open_saver as kept
        from namepin.agent.review import Review

        prepared = post if isinstance(post, Ready) else await asyncio.to_thread(self.ready, post, image)
        return await Review(self, prepared, open_saver or kept, thread).abegin()

    def review(
        self,
        post: AnyPost | Ready,
        image: Picture | None = None,
        *,
        thread: str | None = None,
        open_saver: "OpenSaver | None" = None,
    ) -> "Review":
        """`areview` for synchronous code."""
        return run_sync(self.areview(post, image, thread=thread, open_saver=open_saver))

    def stream(
        self,
        post: AnyPost | Ready,
        image: Picture | None = None,
        *,
        recorder: Recorder | None = None,
        heat: dict[int, bytes] | None = None,
    ) -> Iterator[StepEvent | Extraction]:
        """`astream` for synchronous code; inside a running event loop use `astream` itself."""
        events = self.astream(post, image, recorder=recorder, heat=heat)
        loop = asyncio.new_event_loop()
        try:
            while True:
                try:
                    yield loop.run_until_complete(anext(events))
                except StopAsyncIteration:
                    return
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def batch(self, posts: Iterable[AnyPost], *, at_once: int = 4) -> Iterator[Extraction]:
        """One extraction per post, in input order. A failed post gives `status="failed"`, never an exception.

        Args:
            posts: read lazily, at most `at_once` ahead.
            at_once: number of posts processed at a time.

        Raises:
            NamepinError: E21x, E30x when a required tool cannot start; E10x when an item is not a post at all.
        """
        self.calls  # noqa: B018  # a tool that cannot start ends the batch, not each post

        def one(post: Post) -> Extraction:
            try:
                return self.extract(post)
            except Exception as error:  # one post never ends a batch
                return self.failed(post, error)

        yield from map_ahead(one, map(as_post, posts), at_once)

    def failed(self, post: Post, error: Exception) -> Extraction:
        """The result of a batch for a post that failed with `error`."""
        fingerprint = Context(self.calls, policy=policy(self.settings)).fingerprint(self.graph.name)
        return failed_extraction(post, None, error, fingerprint)
