"""Mentions as input of RiVEG's second stage: the final type, and the referring expression."""

from namepin.graphs.policy import ExpressionPolicy
from namepin.graphs.state import PostState
from namepin.tools.interfaces import ReferringQuery
from namepin.tools.referring import referring_expression


def type_of_mention(state: PostState, index: int) -> tuple[str, str | None]:
    """A mention's (4-type label, fine label or None), after reranking."""
    mention, finding = state["mentions"][index], state["findings"][index]
    chosen = finding if "label" in finding else mention
    return chosen["label"], chosen["fine_label"]


def expression_of(state: PostState, index: int, policy: ExpressionPolicy) -> str:
    """A mention's `namepin.tools.referring.referring_expression`, or the part of it that the policy selects."""
    label, _ = type_of_mention(state, index)
    expansion = state["findings"][index].get("expansion")
    return referring_expression(state["mentions"][index]["text"], label, expansion, policy.text)


def referring_query(state: PostState, index: int, policy: ExpressionPolicy) -> ReferringQuery:
    """A mention as the query for the tools of RiVEG's second stage."""
    label, fine = type_of_mention(state, index)
    text = state["mentions"][index]["text"]
    expression = expression_of(state, index, policy)
    return ReferringQuery(text=text, label=label, category=fine or label, expression=expression)
