"""Every threshold of the graphs. The graph applies them, so a cassette can replay with other values."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from namepin.tools.referring import Reading
from namepin.tools.types import Frozen


class GatePolicy(Frozen):
    """The entropy gate (GEM section 3.3.1): which mentions are reranked, and among which types.

    Attributes:
        gamma: entropy in nats above which a mention is reranked (the paper's 0.2).
        k: number of the best types that the reranker chooses among (the paper's 5).
        margin: half-width in nats of the band around gamma in which `near_gamma` is reported. In the band, rounding of
            the logits (which depends on batch shape and machine) can change the decision.
        uncertain: probability below which a fine type is marked as uncertain, and people are shown the coarse one with
            "unsure". It is compared with the tagger's calibrated probability where it gives one, else with the score of
            the type. 0 marks none.
    """

    gamma: Annotated[float, Field(ge=0)] = 0.2
    k: Annotated[int, Field(ge=2)] = 5
    margin: Annotated[float, Field(ge=0)] = 0.01
    uncertain: Annotated[float, Field(ge=0, le=1, exclude_if=lambda value: value == 0)] = 0.0

    def unsure(self, probability: float | None) -> bool:
        """Whether a fine type of this probability is marked as uncertain."""
        return probability is not None and probability < self.uncertain

    def near(self, entropy: float | None) -> bool:
        """Whether the entropy lies within the margin band, both ends included."""
        return entropy is not None and abs(entropy - self.gamma) <= self.margin

    def candidates(self, scores: Mapping[str, float], entropy: float | None) -> tuple[str, ...]:
        """The types to rerank among, best first; empty where the tagger's label is final.

        The label is final when H <= gamma, when the tagger gave no entropy, and when there are fewer than two types.
        Equal scores are ordered by name, so that the candidates never depend on a dictionary's order.
        """
        if entropy is None or entropy <= self.gamma or len(scores) < 2:
            return ()
        return tuple(sorted(scores, key=lambda label: (-scores[label], label))[: self.k])


class MatchPolicy(Frozen):
    """When a mention counts as being in the picture.

    Attributes:
        threshold: least P_T, or least probability of entailment, of a mention in the picture.
        margin: half-width of the band around the threshold in which a place is uncertain, where one model stands
            behind the gate (`fallback`).
        unknown: how an evaluation reads "cannot tell", which results keep as null.
    """

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    margin: Annotated[float, Field(ge=0, le=1, exclude_if=lambda value: value == 0.1)] = 0.1
    unknown: Annotated[Literal["absent", "present"], Field(exclude_if=lambda value: value == "absent")] = "absent"

    def groundable(self, score: float, can_tell: bool = True) -> bool | None:
        """Whether a mention is in the picture; None where its matcher cannot tell."""
        return score >= self.threshold if can_tell else None

    def near(self, score: float) -> bool:
        """Whether a score lies within the margin, both ends included."""
        return abs(score - self.threshold) <= self.margin


class ExpressionPolicy(Frozen):
    """The text that entailment and grounding read (RiVEG section IV-B2, Table X).

    Attributes:
        text: `both` is `Named Entity (TYPE) – expansion`, `entity` the part before the dash, `expansion` the one after.
        most: largest number of mentions per post that are expanded. Each costs a call of the language model.
    """

    text: Reading = "both"
    most: Annotated[int, Field(ge=0)] = 32


class MaskPolicy(Frozen):
    """When a mask is taken to have missed its object (RiVEG Figure 12).

    Attributes:
        agreement: least IoU between the prompt's box and the tight box of the mask.
    """

    agreement: Annotated[float, Field(ge=0, le=1)] = 0.5


class ReviewPolicy(Frozen):
    """When a person is asked. The gate's band is `gate.margin` around gamma.

    Attributes:
        match_margin: half-width of the band around `match.threshold`; a person is asked about match scores in it.
        type_margin: half-width of the band around `gate.uncertain`; a person is asked about types in it.
    """

    match_margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    type_margin: Annotated[float, Field(ge=0, le=1)] = 0.05

    def close(self, score: float | None, threshold: float) -> bool:
        """Whether a match score lies in the band."""
        return score is not None and abs(score - threshold) <= self.match_margin

    def close_type(self, probability: float | None, gate: GatePolicy) -> bool:
        """Whether the probability of a type lies in the band around `gate.uncertain`."""
        return gate.uncertain > 0 and probability is not None and abs(probability - gate.uncertain) <= self.type_margin


class Policy(Frozen):
    """The settings of the graph's own decisions: `--set gate.gamma=0.4`, `--set expression.text=entity`."""

    gate: GatePolicy = GatePolicy()
    match: MatchPolicy = MatchPolicy()
    expression: ExpressionPolicy = ExpressionPolicy()
    mask: MaskPolicy = MaskPolicy()
