"""The referring expression (RiVEG section IV-B2): what entailment and grounding read instead of the bare name."""

from namepin.graphs.policy import ExpressionPolicy
from namepin.graphs.state import PostState
from namepin.tools.interfaces import ReferringQuery

DASH = " – "
"""An en dash between blanks, as the paper prints it."""


def typed(state: PostState, index: int) -> tuple[str, str | None]:
    """A mention's (4-type label, fine label or None): the reranked ones, where it was reranked."""
    mention, finding = state["mentions"][index], state["findings"][index]
    chosen = finding if "label" in finding else mention
    return chosen["label"], chosen["fine_label"]


def expression_of(state: PostState, index: int, policy: ExpressionPolicy) -> str:
    """`Named Entity (TYPE) – expansion`, or the part of it that the policy asks for.

    TYPE is the 4-type label as the data set writes it (the paper's tables say MISC where GMNER has OTHER). A mention
    that has no expansion is `Named Entity (TYPE)` under every policy.
    """
    entity = f"{state['mentions'][index]['text']} ({typed(state, index)[0]})"
    expansion = state["findings"][index].get("expansion")
    if not expansion or policy.text == "entity":
        return entity
    return expansion if policy.text == "expansion" else f"{entity}{DASH}{expansion}"


def referring_query(state: PostState, index: int, policy: ExpressionPolicy) -> ReferringQuery:
    """A mention as the tools of RiVEG's second stage see it."""
    label, fine = typed(state, index)
    text = state["mentions"][index]["text"]
    expression = expression_of(state, index, policy)
    return ReferringQuery(text=text, label=label, category=fine or label, expression=expression)
