"""Review: the questions to a person about close decisions, and the two steps that wait for the answers.

A graph has these steps only when it was built with `review=True`. They interrupt the run (LangGraph's `interrupt`).
The run continues, possibly in another process, when it is resumed with answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import TypeAdapter, ValidationError

from namepin.graphs.context import Context
from namepin.graphs.policy import GatePolicy, ReviewPolicy
from namepin.graphs.roles import RERANKER
from namepin.graphs.state import Finding, Json, PostState, mentions_of
from namepin.graphs.step import step
from namepin.graphs.text_nodes import REVIEW, count, split_label, type_probability
from namepin.tools.errors import NamepinError
from namepin.tools.types import Entity, Frozen

YES, NO = "yes", "no"
Measure = Literal["entropy", "probability", "match score"]
SUFFIX = "+review"
"""Suffix of the graph's name, and so part of every fingerprint: the tools do not determine a person's answers."""


class Question(Frozen):
    """A question to a person.

    Attributes:
        key: the key of its answer.
        kind: `label` asks for the type of a mention, `place` whether it is in the picture.
        mention: the text of the mention.
        start: its first character in the post's text.
        end: its end in the post's text, exclusive.
        choices: the possible answers; the machine's own answer comes first.
        value: the entropy in nats, the type's probability, or the match score.
        threshold: the threshold that the value is close to.
        measure: which of the three it is.
    """

    key: str
    kind: Literal["label", "place"]
    mention: str
    start: int
    end: int
    choices: tuple[str, ...]
    value: float
    threshold: float
    measure: Measure | None = None


Answers = Mapping[str, str]
_QUESTIONS = TypeAdapter(tuple[Question, ...])


def questions_from(payload: Any) -> tuple[Question, ...]:
    """The questions of an interrupt's value."""
    try:
        return _QUESTIONS.validate_python(payload)
    except ValidationError as error:
        raise NamepinError("E333", "the saved run asks a question that this version does not know") from error


def check_answers(questions: Sequence[Question], answers: Mapping[str, Any]) -> dict[str, str]:
    """The answers, one per question.

    Raises:
        NamepinError: E333 for a missing answer, an answer without a question, or one that is not among the choices.
    """
    asked = {question.key: question for question in questions}
    for key in answers:
        if key not in asked:
            raise NamepinError("E333", f"there is no question {key!r}", mend=f"answer {', '.join(asked)}")
    found: dict[str, str] = {}
    for key, question in asked.items():
        choices = ", ".join(question.choices)
        if key not in answers:
            raise NamepinError("E333", f"{question.mention!r} has no answer", where=key, mend=f"choose from {choices}")
        answer = {True: YES, False: NO}.get(answers[key], answers[key]) if question.kind == "place" else answers[key]
        if not isinstance(answer, str) or answer not in question.choices:
            what = f"{str(answer)[:60]!r} is not a choice for {question.mention!r}"
            raise NamepinError("E333", what, where=key, mend=f"choose from {choices}")
        found[key] = answer
    return found


def close_calls(entities: Sequence[Entity], policy: ReviewPolicy, gate: GatePolicy, threshold: float) -> int:
    """The number of close decisions in a result, without those that a person made."""
    undecided = [entity for entity in entities if REVIEW not in entity.provenance]
    types = sum(_close_type(entity, policy, gate) and len(entity.scores) > 1 for entity in undecided)
    return types + sum(policy.close(entity.match_score, threshold) for entity in undecided)


def _close_type(entity: Entity, policy: ReviewPolicy, gate: GatePolicy) -> bool:
    score = None if entity.reranked or entity.fine_label is None else entity.scores.get(entity.fine_label)
    return entity.near_gamma or policy.close_type(entity.type_confidence or score, gate)


def _ask(questions: list[Question]) -> dict[str, str]:
    """Interrupt the run until a person has answered; without questions, return at once.

    Invalid answers are asked for again, because LangGraph would hand a failed step the same answers at its next
    attempt. `Review` refuses them before they get here.
    """
    asked = [question.model_dump(mode="json") for question in questions]
    while questions:
        given = interrupt(asked)
        try:
            return check_answers(questions, given if isinstance(given, Mapping) else {})
        except NamepinError:
            continue
    return {}


@step(without="", summary=lambda u: count(u["findings"], "answer"))
async def ask_label(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ask for the type of every mention whose entropy is close to gamma, or its type to being marked as uncertain."""
    gate, review = runtime.context.policy.gate, runtime.context.review or ReviewPolicy()
    questions = []
    for mention, finding in zip(mentions_of(state), state["findings"], strict=True):
        ranked = sorted(mention.scores, key=lambda label: (-mention.scores[label], label))[: gate.k]
        probability = type_probability(mention, finding)
        if len(ranked) < 2 or mention.entropy is None:
            continue
        if finding["near_gamma"]:
            questions.append(
                _question("label", finding["index"], state, ranked, "entropy", mention.entropy, gate.gamma)
            )
        elif finding["candidates"] and runtime.context.has(RERANKER):
            continue
        elif probability is not None and review.close_type(probability, gate):
            numbers = probability, gate.uncertain
            questions.append(_question("label", finding["index"], state, ranked, "probability", *numbers))
    findings = []
    for key, answer in _ask(questions).items():
        label, fine = split_label(answer)
        index = int(key.partition(":")[2])
        findings.append(Finding(index=index, label=label, fine_label=fine, candidates=[], answered=["label"]))
    return {"findings": findings}


@step(without="", summary=lambda u: count(u["findings"], "answer"))
async def ask_place(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ask whether a mention is in the picture when its match score is close to the threshold."""
    review, threshold = runtime.context.review or ReviewPolicy(), runtime.context.policy.match.threshold
    questions = []
    for finding in state["findings"]:
        score = (finding.get("match") or finding.get("entailment") or finding.get("place") or {}).get("score")
        if score is not None and finding["groundable"] is not None and review.close(score, threshold):
            choices = [YES, NO] if finding["groundable"] else [NO, YES]
            questions.append(_question("place", finding["index"], state, choices, "match score", score, threshold))
    known = {finding["index"]: finding.get("answered", []) for finding in state["findings"]}
    findings = []
    for key, answer in _ask(questions).items():
        index = int(key.partition(":")[2])
        findings.append(Finding(index=index, groundable=answer == YES, answered=[*known[index], "place"]))
    return {"findings": findings}


def _question(
    kind: Literal["label", "place"],
    index: int,
    state: PostState,
    choices: Sequence[str],
    measure: Measure,
    value: float,
    threshold: float,
) -> Question:
    mention = state["mentions"][index]
    return Question(
        key=f"{kind}:{index}",
        kind=kind,
        mention=mention["text"],
        start=mention["start"],
        end=mention["end"],
        choices=tuple(choices),
        value=value,
        threshold=threshold,
        measure=measure,
    )
