"""The textual half, which both graphs share: caption -> knowledge -> tag -> gate -> rerank, and the end of every post.

The nodes have no thresholds of their own: thresholds come from the context, answers from the tools.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from namepin.graphs.context import Context
from namepin.graphs.policy import GatePolicy
from namepin.graphs.roles import CAPTIONER, EXAMPLES, KNOWLEDGE, RERANKER, TAGGER
from namepin.graphs.state import Finding, Json, PostState, RerankTask, image_of, mentions_of
from namepin.graphs.step import DEGRADING, TOOL_MISSING, step
from namepin.tools.errors import ToolUnavailable
from namepin.tools.interfaces import CaptionRequest, KnowledgeRequest, Query, RerankRequest, TagRequest
from namepin.tools.labels import ALIASES, COARSE4, FINE_TO_COARSE4
from namepin.tools.text import tweet_tokens
from namepin.tools.types import Entity, Mention, Notice

REVIEW = "review"
"""In an entity's provenance: a person made one of its decisions."""

Graph = CompiledStateGraph[PostState, Context, PostState, PostState]


@step(without="the post goes on without a caption", summary=lambda u: u["caption"])
async def caption(state: PostState, runtime: Runtime[Context]) -> Json:
    """Describe the picture, for the models that read text only."""
    found = await runtime.context.ask(CAPTIONER, CaptionRequest(image=image_of(state)))
    return {"caption": found.text, "notices": dumps(found.notices)}


@step(without="tagged without knowledge", summary=lambda u: f"{len(u['knowledge']['text'])} characters")
async def knowledge(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ask a language model what the post is about (GEM section 3.2.1, RiVEG section IV-B1c)."""
    request = KnowledgeRequest(text=state["text"], caption=state["caption"], examples=tuple(state["examples"]))
    found = await runtime.context.ask(KNOWLEDGE, request)
    known = found.model_dump(mode="json")
    return {"notices": known.pop("notices"), "knowledge": known}


@step(without="no names were looked for", summary=lambda u: count(u["mentions"], "mention"))
async def tag(state: PostState, runtime: Runtime[Context]) -> Json:
    """Find the mentions and their types (GEM section 3.2, RiVEG section IV-B1d)."""
    known, tokens = state["knowledge"], state["tokens"]
    request = TagRequest(
        text=state["text"],
        tokens=tuple(tokens) if tokens is not None else None,
        knowledge=known["text"] if known else None,
        knowledge_style=known["style"] if known else None,
    )
    tags = (await runtime.context.ask(TAGGER, request)).model_dump(mode="json")
    return {
        "tokens": tags["tokens"],
        "mentions": [{**mention, "index": i} for i, mention in enumerate(tags["mentions"])],
        "notices": tags["notices"],
    }


@step(without="", summary=lambda u: count([f for f in u["findings"] if f["candidates"]], "hard mention"))
async def gate(state: PostState, runtime: Runtime[Context]) -> Json:
    """Give candidates for reranking to mentions whose entropy exceeds gamma (GEM section 3.3.1)."""
    policy = runtime.context.policy.gate
    return {
        "findings": [
            Finding(
                index=mention.index,
                near_gamma=policy.near(mention.entropy),
                candidates=list(policy.candidates(mention.scores, mention.entropy)),
            )
            for mention in mentions_of(state)
        ]
    }


@step(without="the tagger's type stands", summary=lambda u: u["findings"][0]["fine_label"] or u["findings"][0]["label"])
async def rerank(state: RerankTask, runtime: Runtime[Context]) -> Json:
    """Choose one mention's type among its candidates (GEM section 3.3.2)."""
    request = RerankRequest.model_validate(state["request"])
    answer = await runtime.context.ask(RERANKER, request)
    if answer.label not in request.candidates:
        raise ToolUnavailable(RERANKER.name, f"answered {answer.label!r}, which is not among the candidates")
    label, fine_label = split_label(answer.label)
    return {
        "findings": [Finding(index=state["index"], label=label, fine_label=fine_label)],
        "notices": dumps(answer.notices),
    }


def finish(state: PostState, runtime: Runtime[Context], entities: Iterable[Entity]) -> Json:
    """The state's last update: the entities, and warnings about requested steps that the profile cannot do."""
    missing = [
        Notice(code=TOOL_MISSING, tool=role, message=f"{role}: asked for, but this profile has none; step skipped")
        for role in sorted(runtime.context.requested - set(runtime.context.calls.fingerprints))
    ]
    notices = [*state["notices"], *dumps(missing)]
    return {
        "tokens": state["tokens"] if state["tokens"] is not None else list(tweet_tokens(state["text"])),
        "entities": [_state_of(e) for e in sorted(entities, key=lambda e: (e.start, e.end))],
        "notices": dumps(missing),
        "status": "degraded" if any(notice["code"] in DEGRADING for notice in notices) else "ok",
    }


def _state_of(entity: Entity) -> Json:
    """An entity as the state holds it. Newer fields are in it only where they say something: older recordings stay."""
    newer = {"type_uncertain": False, "type_confidence": None}
    return {key: value for key, value in entity.model_dump(mode="json").items() if newer.get(key, ...) != value}


def type_probability(mention: Mention, finding: Finding) -> float | None:
    """The calibrated probability of the tagger's fine type, or its score; None for another's type or a coarse one."""
    if "label" in finding or mention.fine_label is None:
        return None
    return mention.scores.get(mention.fine_label) if mention.confidence is None else mention.confidence


def entity_fields(state: PostState, mention: Mention, finding: Finding, policy: GatePolicy) -> Json:
    """The `Entity` fields from the textual half, and the tools that contributed so far."""
    roles = ((CAPTIONER, "caption"), (EXAMPLES, "examples"), (KNOWLEDGE, "knowledge"))
    before = [role.name for role, key in roles if state.get(key)]
    decided = "label" in finding.get("answered", [])
    reranked = "label" in finding and not decided
    return {
        "text": mention.text,
        "start": mention.start,
        "end": mention.end,
        "token_span": mention.token_span,
        "label": finding.get("label", mention.label),
        "fine_label": finding["fine_label"] if "fine_label" in finding else mention.fine_label,
        "scores": mention.scores,
        "entropy": mention.entropy,
        "type_confidence": None if "label" in finding else mention.confidence,
        "type_uncertain": policy.unsure(type_probability(mention, finding)),
        "near_gamma": finding["near_gamma"],
        "reranked": reranked,
        "provenance": (*before, TAGGER.name, *([RERANKER.name] if reranked else []), *([REVIEW] if decided else [])),
    }


def split_label(label: str) -> tuple[str, str | None]:
    """A label of any scheme as (4-type label, fine label or None). A fine label always has its own parent."""
    if label in COARSE4:
        return label, None
    fine = ALIASES.get(label, label)
    return FINE_TO_COARSE4[fine], fine


def query_of(state: PostState, index: int) -> Query:
    """A mention as the query for the visual tools, with its type after reranking."""
    mention, finding = state["mentions"][index], state["findings"][index]
    typed: Mapping[str, Any] = finding if "label" in finding else mention
    return Query(text=mention["text"], label=typed["label"], category=typed["fine_label"] or typed["label"])


def dumps(notices: Iterable[Notice]) -> list[Json]:
    """Notices as the state holds them."""
    return [notice.model_dump(mode="json") for notice in notices]


def count(things: Sequence[Any], one: str, many: str = "") -> str:
    """A count as text, such as `2 mentions`."""
    return f"{len(things)} {one if len(things) == 1 else many or one + 's'}"
