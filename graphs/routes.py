"""The routes that both graphs share. Each route names the next step, or fans out with `Send`.

A route names a step only when the profile fills its role and the post has work for it. Routes are coroutines because
LangGraph would run a plain function in a thread, at ten times the cost.
"""

from langgraph.runtime import Runtime
from langgraph.types import Send

from namepin.graphs.context import Context
from namepin.graphs.roles import CAPTIONER, KNOWLEDGE, MATCHER, RERANKER, SEGMENTER, TRACER
from namepin.graphs.state import Finding, PostState, RerankTask
from namepin.tools.interfaces import RerankRequest


async def at_start(state: PostState, runtime: Runtime[Context]) -> str:
    """A caption needs a picture."""
    if state["image"] and runtime.context.has(CAPTIONER):
        return "caption"
    return await before_tag(state, runtime)


async def before_tag(state: PostState, runtime: Runtime[Context]) -> str:
    """Go to `knowledge` if the profile fills its role, else to `tag`."""
    return "knowledge" if runtime.context.has(KNOWLEDGE) else "tag"


async def after_tag(state: PostState) -> str:
    """Without mentions, go to the end."""
    return "gate" if state["mentions"] else "assemble"


async def after_gate(state: PostState, runtime: Runtime[Context]) -> str | list[Send]:
    """The hard mentions are reranked, one branch each; the others keep the tagger's label."""
    return hard_mentions(state, runtime) or await before_match(state, runtime)


def hard_mentions(state: PostState, runtime: Runtime[Context]) -> list[Send]:
    """One branch for each mention that the gate gave candidates; none if the profile has no reranker."""
    hard = [f for f in state["findings"] if f.get("candidates")] if runtime.context.has(RERANKER) else []
    return [Send("rerank", rerank_task(state, finding)) for finding in hard]


async def before_match(state: PostState, runtime: Runtime[Context]) -> str:
    """Without a picture or a matcher, skip the visual half."""
    return "match" if state["image"] and runtime.context.has(MATCHER) else "assemble"


async def after_match(state: PostState, runtime: Runtime[Context]) -> str:
    """Only mentions that are in the picture are traced or segmented."""
    if any(f.get("groundable") for f in state["findings"]) and runtime.context.has(TRACER):
        return "trace"
    return await before_segment(state, runtime)


async def before_segment(state: PostState, runtime: Runtime[Context]) -> str:
    """The segmenter needs a prompt: the tracer's point, the matcher's region, or both."""
    return "segment" if runtime.context.has(SEGMENTER) and any(map(has_prompt, state["findings"])) else "assemble"


def has_prompt(finding: Finding) -> bool:
    """Whether a mention has a point or a region to prompt the segmenter with."""
    return bool(finding.get("groundable")) and (
        finding.get("peak") is not None or finding["match"]["region"] is not None
    )


def rerank_task(state: PostState, finding: Finding) -> RerankTask:
    """The input of the branch that reranks this mention."""
    mention = state["mentions"][finding["index"]]
    request = RerankRequest(
        text=state["text"],
        tokens=tuple(state["tokens"] or ()),
        token_span=mention["token_span"],
        candidates=tuple(finding["candidates"]),
        hint={label: mention["scores"][label] for label in finding["candidates"]},
        image=state["image"],
        caption=state["caption"],
    )
    return RerankTask(index=finding["index"], request=request.model_dump(mode="json"))
