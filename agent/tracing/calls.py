"""Each tool call as a separate run in the trace: its tool, its duration, and the decision based on it."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.runnables.config import patch_config, set_config_context, var_child_runnable_config

from namepin.graphs.calls import Calls
from namepin.graphs.policy import Policy
from namepin.tools.interfaces import Entailments, Groundings, Matches, Reranked, RerankRequest, Tags
from namepin.tools.media import Media
from namepin.tools.types import Frozen, Mention

Metadata = dict[str, Any]


class TracedCalls:
    """Passes one post's calls on and reports them to the callbacks of their step.

    Args:
        inner: calls to the tools.
        policy: the graph's policy, which turns a call's answer into a decision.
    """

    def __init__(self, inner: Calls, policy: Policy) -> None:
        self.inner, self.policy = inner, policy
        self._mentions: dict[tuple[int, int], Mention] = {}

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the tools."""
        return self.inner.fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`."""
        config = var_child_runnable_config.get()
        callbacks = (config or {}).get("callbacks")
        if not isinstance(callbacks, AsyncCallbackManager):
            return await self.inner.call(tool, request, media)
        asked = request.model_dump(mode="json")
        run = await callbacks.on_tool_start({"name": tool}, tool, inputs=asked, name=tool)
        add_metadata(callbacks, run.run_id, {"tool": tool, "fingerprint": self.fingerprints[tool]})
        began = time.perf_counter()
        try:
            # The tool's own calls (to a chat model) belong below its run.
            with set_config_context(patch_config(config, callbacks=run.get_child())) as inside:
                work = asyncio.create_task(_await(self.inner, tool, request, media), context=inside)
                answer = await work
        except BaseException as error:
            add_metadata(callbacks, run.run_id, {"ms": _since(began)})
            await run.on_tool_error(error)
            raise
        add_metadata(callbacks, run.run_id, {"ms": _since(began), **self._decision_metadata(request, answer)})
        await run.on_tool_end(answer.model_dump(mode="json"))
        return answer

    def _decision_metadata(self, request: Frozen, answer: Frozen) -> Metadata:
        """Numbers of an answer and the policy's decisions on them; never a word of the post."""
        facts: Metadata = {
            kind: tokens for kind in ("prompt_tokens", "completion_tokens") if (tokens := getattr(answer, kind, None))
        }
        gate, threshold = self.policy.gate, self.policy.match.threshold
        if isinstance(answer, Tags):
            self._mentions |= {mention.token_span: mention for mention in answer.mentions}
            facts |= {"mentions": len(answer.mentions), "gamma": gate.gamma} | self._gate_metadata(
                list(answer.mentions)
            )
        elif isinstance(answer, Reranked) and isinstance(request, RerankRequest):
            mention = self._mentions.get(request.token_span)
            facts |= {"candidates": list(request.candidates), "label": answer.label}
            facts |= self._gate_metadata([mention]) if mention else {}
        elif isinstance(answer, Matches | Entailments):
            pairs = answer.matches if isinstance(answer, Matches) else answer.entailments
            scores = [pair.score for pair in pairs]
            facts |= {"match_score": scores, "in_picture": [score >= threshold for score in scores]}
            facts |= {"match_threshold": threshold}
            if isinstance(answer, Matches) and not all(match.can_tell for match in answer.matches):
                facts |= {"in_picture": [match.can_tell and match.score >= threshold for match in answer.matches]}
                facts |= {"can_tell": [match.can_tell for match in answer.matches]}
        elif isinstance(answer, Groundings):
            facts |= {"boxes": [len(found.boxes) for found in answer.groundings]}
        return facts

    def _gate_metadata(self, mentions: list[Mention]) -> Metadata:
        """The gate's decision on each mention: `hard` mentions have candidates; NaN if the tagger gave no entropy."""
        gate = self.policy.gate
        entropies = [float("nan") if m.entropy is None else m.entropy for m in mentions]
        hard = [bool(gate.candidates(m.scores, m.entropy)) for m in mentions]
        near = [gate.near(m.entropy) for m in mentions]
        return {"entropy": entropies, "gate": ["hard" if h else "sure" for h in hard], "near_gamma": near}


async def _await(inner: Calls, tool: str, request: Frozen, media: Media) -> Frozen:
    return await inner.call(tool, request, media)


def _since(began: float) -> float:
    return round(1000 * (time.perf_counter() - began), 3)


def add_metadata(callbacks: AsyncCallbackManager, run_id: Any, metadata: Metadata) -> None:
    """Add to a run's metadata in every handler that stores metadata."""
    for handler in callbacks.handlers:
        if hasattr(handler, "note"):
            handler.note(run_id, metadata)
