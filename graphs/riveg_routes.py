"""The routes that only the RiVEG graph has. As in `namepin.graphs.routes`, a route names only steps that have work."""

from langgraph.runtime import Runtime
from langgraph.types import Send

from namepin.graphs import routes
from namepin.graphs.context import Context
from namepin.graphs.riveg_expression import type_of_mention
from namepin.graphs.roles import CAPTIONER, ENTAILMENT, EXAMPLES, EXPANSION, GROUNDER, KNOWLEDGE, SEGMENTER
from namepin.graphs.state import ExpandTask, Finding, PostState
from namepin.tools.interfaces import ExpandRequest


async def at_start(state: PostState, runtime: Runtime[Context]) -> str:
    """A caption needs a picture."""
    if state["image"] and runtime.context.has(CAPTIONER):
        return "caption"
    return await before_knowledge(state, runtime)


async def before_knowledge(state: PostState, runtime: Runtime[Context]) -> str:
    """Similar examples are used only in the knowledge prompt."""
    if runtime.context.has(KNOWLEDGE) and runtime.context.has(EXAMPLES):
        return "examples"
    return await routes.before_tag(state, runtime)


async def after_gate(state: PostState, runtime: Runtime[Context]) -> str | list[Send]:
    """GEM's reranker, if the profile mixes the papers; else the visual half."""
    return routes.hard_mentions(state, runtime) or await before_visual(state, runtime)


async def before_visual(state: PostState, runtime: Runtime[Context]) -> str:
    """Skip the visual half and its preparation without a picture, or without a tool that looks into it.

    The route names one step, never a fan-out, because several branches of `rerank` take it at once.
    """
    context = runtime.context
    if not state["image"] or not (context.has(ENTAILMENT) or context.has(GROUNDER)):
        return "assemble"
    return "describe" if _expands(runtime) else await after_expand(state, runtime)


async def after_describe(state: PostState, runtime: Runtime[Context]) -> list[Send]:
    """The expansions, one branch per mention, up to the policy's bound."""
    most = runtime.context.policy.expression.most
    return [Send("expand", expand_task(state, finding)) for finding in state["findings"][:most]]


async def after_expand(state: PostState, runtime: Runtime[Context]) -> str:
    """Without entailment, every mention is grounded (footnote 3 of the paper)."""
    return "entail" if runtime.context.has(ENTAILMENT) else "ground"


async def after_entail(state: PostState, runtime: Runtime[Context]) -> str:
    """Only expressions that the picture entails are grounded."""
    groundable = any(finding.get("groundable") for finding in state["findings"])
    return "ground" if groundable and runtime.context.has(GROUNDER) else "assemble"


async def before_segment(state: PostState, runtime: Runtime[Context]) -> str:
    """The segmenter's prompt is the grounder's box."""
    return "segment" if runtime.context.has(SEGMENTER) and any(map(has_box, state["findings"])) else "assemble"


def has_box(finding: Finding) -> bool:
    """Whether the grounder found a place."""
    return bool(finding.get("groundable") and finding.get("grounded", {}).get("boxes"))


def expand_task(state: PostState, finding: Finding) -> ExpandTask:
    """The input of the branch that expands this mention."""
    mention = state["mentions"][finding["index"]]
    label, _ = type_of_mention(state, finding["index"])
    request = ExpandRequest(text=state["text"], entity=mention["text"], label=label, background=state["background"])
    return ExpandTask(index=finding["index"], request=request.model_dump(mode="json"))


def _expands(runtime: Runtime[Context]) -> bool:
    policy = runtime.context.policy.expression
    return runtime.context.has(EXPANSION) and policy.text != "entity" and policy.most > 0
