"""The entropy gate (GEM section 3.3.1): which mentions are hard enough for the reranker, and among which types."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from namepin.tools.types import Frozen


class GatePolicy(Frozen):
    """Thresholds of the gate; they live in the graph, so a cassette can be asked "what if".

    Attributes:
        gamma: entropy in nats above which a mention is reranked (the paper's 0.2).
        k: how many of the best types the reranker chooses among (the paper's 5).
        margin: half-width in nats of the band around gamma in which `near_gamma` is reported: there, the last bits of
            a logit (batch shape, machine) can decide which way a mention goes.
    """

    gamma: Annotated[float, Field(ge=0)] = 0.2
    k: Annotated[int, Field(ge=2)] = 5
    margin: Annotated[float, Field(ge=0)] = 0.01

    def near(self, entropy: float | None) -> bool:
        """Whether the entropy lies within the margin band, both ends included."""
        return entropy is not None and abs(entropy - self.gamma) <= self.margin

    def candidates(self, scores: Mapping[str, float], entropy: float | None) -> tuple[str, ...]:
        """The types to rerank among, best first; empty where the tagger's label stands.

        It stands when H <= gamma, when the tagger gave no entropy, and when there is nothing to choose from. Equal
        scores are ordered by name, so that the choice of candidates never depends on a dictionary's order.
        """
        if entropy is None or entropy <= self.gamma or len(scores) < 2:
            return ()
        return tuple(sorted(scores, key=lambda label: (-scores[label], label))[: self.k])
