"""The steps of a running answer, in words, as they happen."""

from dataclasses import dataclass, field

from namepin.agent.chat.answers import LOAD
from namepin.graphs.step import StepEvent

_WORDS = {
    LOAD: "Load the tools",
    "caption": "Describe the picture",
    "describe": "Describe the picture in detail",
    "examples": "Choose similar annotated posts",
    "knowledge": "Ask what the post is about",
    "tag": "Find the names and their types",
    "gate": "Check which types are in doubt",
    "rerank": "Ask for a second opinion on types in doubt",
    "expand": "Describe each name in plain words",
    "match": "Look for the names in the picture",
    "entail": "Look for the names in the picture",
    "trace": "Find the point of each match",
    "ground": "Find the place of each name",
    "segment": "Draw the masks",
    "assemble": "Put the answer together",
}
_TOOLS = {
    "extract": "Read the post",
    "rerun": "Read the post again",
    "explain": "Look up the reasons",
    "ground": "Look for the name in the picture",
    "segment": "Draw the mask",
    "compare": "Read the post with each profile",
    "show": "Write the table",
}


_NOTES = {"hard mention": "in doubt", "mention": "found", "entity": "in the answer", "entities": "in the answer"}
"""Words of the graphs' notes that people at the page need not know, and what is said instead."""


@dataclass
class ShownStep:
    """A step as people see it.

    Attributes:
        words: what it does.
        note: its result in a few words; empty while it runs.
        running: the number of its parts that have begun and not ended.
    """

    words: str
    note: str = ""
    running: int = 1


@dataclass
class Steps:
    """The steps so far, in the order of their beginning."""

    shown: dict[str, ShownStep] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether a step has begun and not ended."""
        return any(step.running > 0 for step in self.shown.values())

    def call(self, tool: str) -> None:
        """A tool of the conversation was called: everything before it is done."""
        for step in self.shown.values():
            step.running = 0
        if tool in ("extract", "rerun"):
            self.shown.clear()  # the graph's own steps follow
        else:
            self.shown[f"tool {tool}"] = ShownStep(_TOOLS.get(tool, tool))

    def add(self, event: StepEvent) -> None:
        """A step of the graph began or ended."""
        known = self.shown.get(event.step)
        if event.phase == "started":
            if known is None:
                self.shown[event.step] = ShownStep(_WORDS.get(event.step, event.step.replace("_", " ")))
            else:
                known.running += 1
        elif known is not None:
            known.running -= 1
            known.note = _note(event.summary) if event.index is None else ""


def _note(summary: str) -> str:
    """A step's result in words: "3 found" for "3 mentions"."""
    number, _, rest = summary.partition(" ")
    words = _NOTES.get(rest) or _NOTES.get(rest.removesuffix("s"))
    return f"{number} {words}" if number.isdecimal() and words else summary
