"""A profile's answers to a data set's posts: the tools built as the evaluation asks, the graph run on every post."""

from collections.abc import Callable, Mapping
from typing import Literal

from agent.api import Namepin
from agent.build import build_tools
from agent.settings import Settings
from evals.gold import Dataset
from evals.predictions import Predictions
from evals.run import predict_all
from graphs.calls import KNOWLEDGE, LiveCalls
from tools.knowledge import RecordedKnowledge
from tools.types import Extraction

KnowledgeSource = Literal["off", "recorded", "live"]


def evaluated_pin(settings: Settings, knowledge: KnowledgeSource, recorded: Mapping[str, str]) -> Namepin:
    """The profile's `Namepin` with its knowledge tool left out, replaced by recorded knowledge, or as configured.

    Args:
        settings: the profile.
        knowledge: where the auxiliary knowledge comes from.
        recorded: post text -> knowledge, for "recorded".

    Raises:
        NamepinError: whatever a tool raises that cannot start.
    """
    if knowledge == "live":
        return Namepin(settings)
    others = {role: tool for role, tool in settings.tools.items() if role != KNOWLEDGE.name}
    settings = settings.model_copy(update={"tools": others, "requested": settings.requested - {KNOWLEDGE.name}})
    if knowledge == "off":
        return Namepin(settings)
    return Namepin(settings, LiveCalls({**build_tools(settings), KNOWLEDGE.name: RecordedKnowledge(recorded)}))


def predict_with(pin: Namepin, dataset: Dataset, done: Callable[[Extraction], None] | None = None) -> Predictions:
    """What the profile says about every post; `done` is called after each."""
    return predict_all(dataset, pin.batch, done)
