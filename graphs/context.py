"""The constant inputs of a run: the tools, the pixels, the policy. They are never checkpointed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, cast

from namepin.graphs.calls import Calls
from namepin.graphs.policy import Policy, ReviewPolicy
from namepin.graphs.roles import Q, R, Role
from namepin.graphs.state import PostState
from namepin.tools.base import digest
from namepin.tools.errors import ToolUnavailable
from namepin.tools.llm.usage import Prices, Usage, count_usage, current_usage
from namepin.tools.media import Media
from namepin.tools.types import Extraction


class Watch(Protocol):
    """Observes a post on its way through the graph. A recorder is one."""

    def state(self, state: PostState) -> None:
        """Called with the start state, and with the state after each superstep."""
        ...

    def result(self, extraction: Extraction) -> None:
        """Called once, at the end."""
        ...


@dataclass
class Context:
    """The context of one post's run.

    Attributes:
        calls: the way to the tools; shared by all posts of a profile.
        media: the post's pixels, and the blobs its tools leave behind.
        policy: thresholds.
        requested: roles the user asked for by name. A role that the profile cannot fill gives a warning.
        watch: the observer, if there is one.
        review: when a person is asked, in a graph that was built with review.
        prices: of a model server's tokens.
        usage: what the model servers counted; filled by `ask`.
        spans: role -> (start of its first call, end of its last), seconds on the monotonic clock; filled by `ask`.
    """

    calls: Calls
    media: Media = field(default_factory=Media)
    policy: Policy = Policy()
    requested: frozenset[str] = frozenset()
    watch: Watch | None = None
    prices: Prices = Prices()
    usage: Usage = field(default_factory=Usage)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    review: ReviewPolicy | None = None

    def has(self, role: Role[Q, R]) -> bool:
        """Whether the profile fills this role."""
        return role.name in self.calls.fingerprints

    async def ask(self, role: Role[Q, R], request: Q) -> R:
        """Call the tool in this role, and record the time of the call.

        Raises:
            ToolUnavailable: the tool is down (`TransientFailure`: a retry may succeed), or the profile has none.
        """
        if not self.has(role):
            raise ToolUnavailable(role.name, "this profile has none", mend="choose a profile of this graph")
        began = time.perf_counter()
        outer = current_usage()
        with count_usage() as used:
            try:
                return cast(R, await self.calls.call(role.name, request, self.media))
            finally:
                self.usage.add(used)
                if outer is not None:
                    outer.add(used)
                first, _ = self.spans.get(role.name, (began, began))
                self.spans[role.name] = (first, time.perf_counter())

    def timings_ms(self) -> Mapping[str, float]:
        """Role -> milliseconds from its first call to its last answer, in the order the roles were first called."""
        return {name: round(1000 * (end - start), 3) for name, (start, end) in self.spans.items()}

    def fingerprint(self, graph: str) -> str:
        """Sha256 over everything that determines an `Extraction`: the graph and its version, the policy, every tool."""
        return _fingerprint(graph, self.policy, tuple(self.calls.fingerprints.items()))


@lru_cache(maxsize=64)
def _fingerprint(graph: str, policy: Policy, tools: tuple[tuple[str, str], ...]) -> str:
    return digest({"graph": graph, "policy": policy.model_dump(mode="json"), "tools": dict(tools)})
