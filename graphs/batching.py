"""Micro-batching: posts that are in the graph at the same time meet at each tool, which answers them together.

One thread a tool takes what waits there, up to a bound, and asks the tool once. It does not wait for more to come:
while it computes, the next batch gathers by itself. A slow tool (a language model's server) holds up nobody who does
not need it. When a batch fails, each of its requests is asked alone, so that only the one that fails for itself fails.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from graphs.calls import AnyTool, TransientFailure, transient_errors, without_credentials
from tools.errors import ToolUnavailable
from tools.media import Media
from tools.types import Frozen


@dataclass
class _Waiting:
    request: Frozen
    media: Media
    answer: "Future[Frozen]" = field(default_factory=Future)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class BatchedCalls:
    """`Calls` that ask the tools for several posts at once.

    Args:
        tools: role -> tool.
        most: requests of one batch.
        threads: role -> batches of a tool at a time; one where it is not named. A tool that waits for a server may have
            several.
        timeout_s: a request that is not answered by then counts as the tool being down.
    """

    def __init__(
        self,
        tools: Mapping[str, AnyTool],
        *,
        most: int = 16,
        threads: Mapping[str, int] | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        self.tools, self.most, self.timeout_s = dict(tools), most, timeout_s
        self._fingerprints = {name: tool.fingerprint for name, tool in self.tools.items()}
        self._queues: dict[str, queue.SimpleQueue[_Waiting | None]] = {}
        for name, tool in self.tools.items():
            self._queues[name] = queue.SimpleQueue()
            for number in range((threads or {}).get(name, 1)):
                work = threading.Thread(
                    target=self._work, args=(tool, self._queues[name]), name=f"{name}-{number}", daemon=True
                )
                work.start()

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Role -> fingerprint."""
        return self._fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`. A call that is cancelled while it waits is not asked any more."""
        waiting = _Waiting(request, media)
        self._queues[tool].put(waiting)
        answer = asyncio.wrap_future(waiting.answer)
        try:
            done, _ = await asyncio.wait({answer}, timeout=self.timeout_s)
        except asyncio.CancelledError:
            waiting.answer.cancel()
            raise
        if not done:
            answer.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody will ask for it
            waiting.answer.cancel()
            raise ToolUnavailable(tool, f"no answer within {self.timeout_s:g} s")
        try:
            return answer.result()
        except transient_errors() as error:
            raise TransientFailure(tool, without_credentials(f"{type(error).__name__}: {error}")) from error

    def close(self) -> None:
        """Let the threads end when what waits is done."""
        for waiting in self._queues.values():
            waiting.put(None)

    def _work(self, tool: AnyTool, waiting: "queue.SimpleQueue[_Waiting | None]") -> None:
        while (first := waiting.get()) is not None:
            batch, closed = [first], False
            while len(batch) < self.most:
                try:
                    following = waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    closed = True
                    break
                batch.append(following)
            batch = [one for one in batch if one.answer.set_running_or_notify_cancel()]
            if batch:
                _answer(tool, batch)
            if closed:
                return


def _answer(tool: AnyTool, batch: list[_Waiting]) -> None:
    try:
        results = _ask(tool, batch)
    except BaseException as error:
        if len(batch) == 1:
            batch[0].answer.set_exception(error)
            return
        for one in batch:
            _answer(tool, [one])
        return
    for one, result in zip(batch, results, strict=True):
        one.answer.set_result(result)


def _ask(tool: AnyTool, batch: list[_Waiting]) -> list[Any]:
    """One call for the whole batch; what it leaves in the media is put where each post looks for it."""
    images = {sha256: image for one in batch for sha256, image in one.media.images.items()}
    blobs = {key: blob for one in batch for key, blob in one.media.blobs.items()}
    known = set(blobs)
    media = Media(images=images, blobs=blobs)
    results = list(batch[0].context.run(tool.run, [one.request for one in batch], media))
    if len(results) != len(batch):
        raise ToolUnavailable(tool.name, f"{len(results)} answers to {len(batch)} requests")
    new = {key: blob for key, blob in media.blobs.items() if key not in known}
    for one, result in zip(batch, results, strict=True):
        if new:
            said = result.model_dump_json()
            one.media.blobs.update({key: blob for key, blob in new.items() if len(batch) == 1 or key in said})
    return results
