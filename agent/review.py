"""A run whose close decisions a person makes. It waits for answers, even across a restart of the process."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, cast

from langchain_core.runnables.config import RunnableConfig, merge_configs
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Command

from namepin.agent.config.settings import Settings
from namepin.agent.posts import Ready
from namepin.graphs.context import Context
from namepin.graphs.registry import GRAPHS
from namepin.graphs.review_nodes import Question, check_answers, questions_from
from namepin.graphs.run import extraction_from, heat_maps
from namepin.graphs.state import PostState, start_state
from namepin.tools.concurrency import run_sync
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction, Notice

Saver = BaseCheckpointSaver[Any]
OpenSaver = Callable[[], AbstractAsyncContextManager[Saver]]


class Reviewer(Protocol):
    """The profile that a review runs a post through; `namepin.agent.api.Namepin` is one."""

    @property
    def settings(self) -> Settings:
        """Its settings: the graph, and the conditions for questions."""
        ...

    @property
    def unused(self) -> tuple[Notice, ...]:
        """Warnings about tools that the graph does not use."""
        ...

    def context(self, prepared: Ready) -> Context:
        """A fresh context for one post."""
        ...

    def config(self, prepared: Ready) -> RunnableConfig | None:
        """LangGraph's configuration of a post's run when it is traced."""
        ...


class Review:
    """One post's run, which stops when a person has to decide.

        review = pin.review(post, image)
        while review.questions:
            review.answer({question.key: ask(question) for question in review.questions})
        review.extraction

    The checkpointer stores everything: after a restart, `pin.review` of the same post continues where it was.

    Attributes:
        thread: the run's name in the checkpointer.
        questions: the open questions; empty when the run is over.
        extraction: the result; None before the end.
        heat: its heat maps, as filled by `Namepin.astream`; without the maps of steps that another process ran.
        answered: questions with their answers so far, including those given in earlier processes.
    """

    def __init__(self, pin: Reviewer, post: Ready, open_saver: OpenSaver, thread: str | None = None) -> None:
        self.pin, self.post, self._open_saver = pin, post, open_saver
        self.thread = thread or thread_of(post)
        self.questions: tuple[Question, ...] = ()
        self.answered: list[tuple[Question, str]] = []
        self.extraction: Extraction | None = None
        self.heat: dict[int, bytes] = {}

    def answer(self, answers: Mapping[str, Any]) -> "Review":
        """`aanswer` for synchronous code."""
        return run_sync(self.aanswer(answers))

    async def aanswer(self, answers: Mapping[str, Any]) -> "Review":
        """Answer the open questions and run on until the next question or the end.

        Args:
            answers: question's key -> one of its choices; True or False also answers a question about a place.

        Raises:
            NamepinError: E333 for answers that do not fit; the run still waits. Otherwise as `Namepin.astream`.
        """
        if not self.questions:
            raise NamepinError("E333", "there is no open question", mend="the run is over: take its extraction")
        fitting = check_answers(self.questions, answers)
        asked = self.questions
        async with self._graph() as (graph, config, context):
            await self._check_waiting(graph, config, asked)
            await graph.ainvoke(Command(resume=fitting), config, context=context)
            await self._look(graph, config, context)
        self.answered += [(question, fitting[question.key]) for question in asked]
        return self

    async def abegin(self) -> "Review":
        """Start the run, or find the waiting run.

        Raises:
            NamepinError: E334 when a run of this name has another post, or other tools or settings.
        """
        async with self._graph() as (graph, config, context):
            snapshot = await graph.aget_state(config)
            if snapshot.values:
                self._check_same(snapshot, context.fingerprint(graph.name))
            else:
                notices = (*self.post.notices, *self.pin.unused)
                state = start_state(self.post.post, self.post.image, notices)
                await graph.ainvoke(state, config, context=context)
            await self._look(graph, config, context)
        return self

    @asynccontextmanager
    async def _graph(self) -> AsyncIterator[tuple[Any, RunnableConfig, Any]]:
        async with self._open_saver() as saver:
            graph = GRAPHS[self.pin.settings.graph_key](saver, review=True)
            context = self.pin.context(self.post)
            context.review = self.pin.settings.review
            metadata = {"fingerprint": context.fingerprint(graph.name), "post": self.post.post.id}
            own = RunnableConfig(
                configurable={"thread_id": self.thread}, metadata=metadata, run_name=graph.name, recursion_limit=60
            )
            yield graph, merge_configs(own, self.pin.config(self.post)), context

    async def _look(self, graph: Any, config: RunnableConfig, context: Any) -> None:
        """Read the run's open questions or its result."""
        snapshot = await graph.aget_state(config)
        self.questions = tuple(q for waiting in snapshot.interrupts for q in questions_from(waiting.value))
        if snapshot.next and not self.questions:
            # A process ended within a step: run the step again.
            await graph.ainvoke(None, config, context=context)
            return await self._look(graph, config, context)
        if not snapshot.next:
            state = cast(PostState, snapshot.values)
            fingerprint = context.fingerprint(graph.name)
            self.extraction = extraction_from(self.post.post, self.post.image, state, fingerprint, context)
            self.heat = heat_maps(state, context.media.blobs)

    async def _check_waiting(self, graph: Any, config: RunnableConfig, asked: tuple[Question, ...]) -> None:
        snapshot = await graph.aget_state(config)
        waiting = tuple(q for one in snapshot.interrupts for q in questions_from(one.value))
        if waiting != asked:
            raise NamepinError(
                "E333", "the questions were answered already", where=self.thread, mend="begin the review again"
            )

    def _check_same(self, snapshot: Any, fingerprint: str) -> None:
        given = start_state(self.post.post, self.post.image)
        same = all(snapshot.values.get(key) == given[key] for key in ("id", "text", "image"))
        if not same or (snapshot.metadata or {}).get("fingerprint") != fingerprint:
            what = "the waiting run has " + ("other tools or settings" if same else "another post")
            raise NamepinError("E334", what, where=self.thread, mend="give the review another `thread`")


def thread_of(post: Ready) -> str:
    """A name for a post's run, derived from its id, text and picture."""
    image = post.image.sha256 if post.image else ""
    given = "\x00".join((post.post.id, post.post.text, image))
    return f"review/{hashlib.sha256(given.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
