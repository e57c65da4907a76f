"""The Python API: `Namepin` pins the names of posts, one or many, synchronous, asynchronous or streamed."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

from langchain_core.runnables import RunnableConfig

from namepin.agent.config.build import TOGETHER, batched_calls, live_calls, policy, posts_per_group, prices
from namepin.agent.config.settings import Settings, load_settings
from namepin.agent.posts import AnyPost, Picture, Ready, as_post, ready, split_picture
from namepin.agent.render.html import About
from namepin.agent.result import Result
from namepin.agent.tracing.runs import is_traced, run_config
from namepin.graphs.batched_calls import MEMBER, Member, PostGroup
from namepin.graphs.calls import Calls, LiveCalls
from namepin.graphs.context import Context
from namepin.graphs.policy import Policy
from namepin.graphs.recording.recorder import Recorder
from namepin.graphs.registry import GRAPHS, LOOKERS, ROLES_OF
from namepin.graphs.run import failed_extraction, stream_post
from namepin.graphs.step import TOOL_MISSING, StepEvent
from namepin.graphs.text_nodes import Graph
from namepin.tools.concurrency import batch_pace, cut_groups, map_ahead, run_sync
from namepin.tools.errors import NamepinError
from namepin.tools.media import Media
from namepin.tools.types import Extraction, Notice, Post

if TYPE_CHECKING:
    from namepin.agent.review import OpenSaver, Review


class Namepin:
    """A profile's tools and graph, ready for posts. The tools are built once, at the first post.

    Safe to share between threads.

        pin = Namepin.from_profile("starter").load()
        result = pin.extract("So proud of Eileen Collins", image="astronaut.jpg")
        result.save("astronaut.png")

    Args:
        settings: see `namepin.agent.config.settings.load_settings`.
        calls: how the graph calls its tools; None builds the tools of the settings.
        tags: tags of its runs in a trace, besides the profile's name.
    """

    def __init__(self, settings: Settings, calls: Calls | None = None, *, tags: Sequence[str] = ()) -> None:
        self.settings, self.tags = settings, tuple(tags)
        self._calls = calls
        self._building = threading.Lock()
        self._built_in: int | None = None

    @classmethod
    def from_profile(cls, profile: str | None = None, /, **overrides: Any) -> Self:
        """A profile by name or path, with overrides: `gate={"gamma": 0.4}`, or `gate__gamma=0.4`.

        Raises:
            NamepinError: E20x, as `load_settings`.
        """
        return cls(load_settings(profile, overrides=overrides))

    def __repr__(self) -> str:
        """The profile, its graph and its tools."""
        return f"<Namepin {self.settings.profile!r}, graph {self.settings.graph_key}: {', '.join(self.settings.tools)}>"

    @property
    def calls(self) -> Calls:
        """The calls to the tools; the first use builds the tools.

        Raises:
            NamepinError: a tool that the profile requires cannot be built (E21x, E30x).
        """
        self._refuse_fork()
        with self._building:
            if self._calls is None:
                self._calls, self._built_in = live_calls(self.settings), os.getpid()
            return self._calls

    def _refuse_fork(self) -> None:
        """Refuse tools of the process that this one was forked from: their threads and locks were not copied.

        Raises:
            NamepinError: E304.
        """
        if self._built_in not in (None, os.getpid()):
            what = "the tools were loaded before this process was forked, and would wait for ever"
            mend = "load Namepin in the child, and start children by spawn or forkserver"
            raise NamepinError("E304", what, mend=mend)

    def load(self) -> Self:
        """Build the tools and run them once, instead of at the first post. Returns itself.

        Raises:
            NamepinError: as `calls`.
        """
        for tool in getattr(self.calls, "tools", {}).values():
            if hasattr(tool, "warm"):
                tool.warm()
        self.graph  # noqa: B018  # compiles it
        return self

    @cached_property
    def graph(self) -> Graph:
        """The compiled graph."""
        return GRAPHS[self.settings.graph_key]()

    @cached_property
    def unused(self) -> tuple[Notice, ...]:
        """W102 for a profile of another graph: the unused tools, and the missing tools that look for names.

        A profile with the tools of both graphs gives no warning.
        """
        graph, tools = self.settings.graph_key, self.settings.tools
        unused = [role for role in tools if role not in ROLES_OF[graph]]
        if not unused or LOOKERS[graph] & tools.keys():
            return ()
        message = (
            f"the graph {graph} does not ask {' and '.join(unused)} of profile {self.settings.profile}, which has no "
            f"{' or '.join(sorted(LOOKERS[graph]))} to look for names; --profile {graph} has its tools"
        )
        return (Notice(code=TOOL_MISSING, tool=unused[0], message=message),)

    @cached_property
    def _policy(self) -> Policy:
        return policy(self.settings)

    def context(self, prepared: Ready, traced: bool | None = None) -> Context:
        """A fresh context for one post; `traced` says whether its run is traced, where the caller knows."""
        picture = prepared.picture
        media = Media(images={picture.ref.sha256: picture.image} if picture else {})
        context = Context(self.calls, media, self._policy, self.settings.requested, prices=prices(self.settings))
        if is_traced(self.settings.tracing) if traced is None else traced:
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
        post, own = split_picture(post)
        return ready(as_post(post), own if image is None else image, self.settings.images)

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
        self._refuse_fork()
        prepared = post if isinstance(post, Ready) else await asyncio.to_thread(self.ready, post, image)
        async for event in self._events(prepared, recorder, heat, progress=True):
            yield event

    def _events(
        self, prepared: Ready, recorder: Recorder | None, heat: dict[int, bytes] | None, *, progress: bool
    ) -> AsyncIterator[StepEvent | Extraction]:
        """`stream_post` of a prepared post. LangGraph takes a fourth more where its steps' events are streamed."""
        given, ref, notices = prepared.post, prepared.image, (*prepared.notices, *self.unused)
        config = self.config(prepared)
        context = self.context(prepared, traced=config is not None)
        if recorder is not None:
            context = recorder.listen(context, given, ref, notices)
        return stream_post(
            self.graph, given, ref, context, notices=notices, config=config, heat=heat, progress=progress
        )

    async def aextract(
        self,
        post: AnyPost | Ready,
        image: Picture | None = None,
        *,
        min_score: float = 0.0,
        heat: dict[int, bytes] | None = None,
    ) -> Result:
        """`extract` without blocking the event loop; `heat` as `astream`."""
        self._refuse_fork()
        prepared = post if isinstance(post, Ready) else await asyncio.to_thread(self.ready, post, image)
        heat = {} if heat is None else heat
        extraction = cast(Extraction, [event async for event in self._events(prepared, None, heat, progress=False)][-1])
        return self._result(extraction, prepared.given, min_score, heat)

    def extract(self, text: AnyPost | Ready, image: Picture | None = None, *, min_score: float = 0.0) -> Result:
        """Find the names of one post: what each is, and where it is in the post's picture.

            result = pin.extract("Angelina Jolie slams Donald Trump", image="photo.jpg")
            for entity in result.entities:
                print(entity.text, entity.label, entity.fine_label, entity.groundable, entity.box)
            result.show()

        Also works inside a running event loop (Jupyter), where `await pin.aextract(...)` does not block.

        Args:
            text: the post's text, a `Post`, or a row `{"id", "text" | "tokens", "image"}`.
            image: its picture: a path, bytes, a PIL image, or a uint8 array (height, width, 3) in RGB order; an https
                address with `images.urls = true`. It must be readable. A picture that the post itself names may be
                missing: the text is then read alone, with warning W101.
            min_score: leave out entities whose type has a smaller probability.

        Returns:
            The result: `entities` in text order, with character offsets into `text`, boxes in pixels of the upright
            picture, `status` and `warnings`. `groundable` is None where no tool could tell. `to_dict`, `to_rows`,
            `to_pandas`, `to_detections`, `show` and `save` give it in other forms.

        Raises:
            NamepinError: E10x for the post, E12x for `image`, E21x or E30x when a required tool cannot start. A tool
                that fails later does not raise: the result is `degraded`, and a warning says why.
        """
        return run_sync(self.aextract(text, image, min_score=min_score))

    def _result(
        self, extraction: Extraction, picture: Picture | None, min_score: float, heat: Mapping[int, bytes] | None = None
    ) -> Result:
        about = About(self.settings.profile, self.settings.gate.gamma, self.settings.match.threshold)
        result = Result.of(extraction, picture, self.settings.images, about, heat)
        return result.above(min_score) if min_score else result

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
        from namepin.agent.checkpointer import open_saver as open_default
        from namepin.agent.review import Review

        self._refuse_fork()
        prepared = post if isinstance(post, Ready) else await asyncio.to_thread(self.ready, post, image)
        return await Review(self, prepared, open_saver or open_default, thread).abegin()

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

    def batch(
        self, posts: Iterable[AnyPost], *, at_once: int = 16, together: int = TOGETHER, min_score: float = 0.0
    ) -> Iterator[Result]:
        """One result per post, in input order. A failed post gives `status="failed"`, never an exception.

        Args:
            posts: read lazily, two groups at a time; a Hugging Face data set serves, too.
            at_once: largest number of posts with pictures in a group; number of posts at a time without groups.
            together: largest number of posts in a group. Its posts share the tagger's calls, and their results come
                together. There are no groups where no tool gains from them.
            min_score: as `extract`.

        Raises:
            NamepinError: E21x, E30x when a required tool cannot start; E10x when an item is not a post at all.
        """
        calls = self.calls  # a tool that cannot start ends the batch, not each post
        own = batched_calls(self.settings, calls.tools) if isinstance(calls, LiveCalls) else None
        pin = Namepin(self.settings, own, tags=self.tags) if own else self

        def has_picture(item: tuple[Post, Picture | None]) -> bool:
            return item[1] is not None or item[0].image is not None

        async def one(post: Post, picture: Picture | None, member: Member) -> Result:
            MEMBER.set(member)  # in this task's own context
            try:
                heavy = has_picture((post, picture))
                prepared = await asyncio.to_thread(pin.ready, post, picture) if heavy else pin.ready(post)
                return await pin.aextract(prepared, min_score=min_score)
            except Exception as error:  # one post never ends a batch
                return self._result(self.failed_extraction(post, error), None, 0.0)
            finally:
                member.leave()

        async def all_of(group: list[tuple[Post, Picture | None]]) -> list[Result]:
            shared = PostGroup(len(group))
            return await asyncio.gather(*(one(*item, Member(shared, n)) for n, item in enumerate(group)))

        items = ((as_post(post), picture) for post, picture in map(split_picture, posts))
        size = posts_per_group(self.settings, together)
        groups = cut_groups(items, size, heavy=has_picture, most_heavy=at_once)
        try:
            with batch_pace():
                for results in map_ahead(lambda group: asyncio.run(all_of(group)), groups, at_once if size == 1 else 2):
                    yield from results
        finally:
            if own:
                own.close()

    def failed_extraction(self, post: Post, error: Exception) -> Extraction:
        """The result of a batch for a post that failed with `error`."""
        fingerprint = Context(self.calls, policy=self._policy).fingerprint(self.graph.name)
        return failed_extraction(post, None, error, fingerprint)
