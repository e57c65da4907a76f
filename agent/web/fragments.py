"""The pieces of HTML of the page. The templates escape all content of posts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from namepin.agent.chat import phrasing as words
from namepin.agent.chat.state import Answer
from namepin.agent.render.html import About, article_script, article_style, environment, fragment
from namepin.agent.render.view import printable
from namepin.agent.server.jobs import Job
from namepin.agent.server.reviews import Reviewed

AS_POST = "post: "
"""Prefix that makes any message a post; examples begin with it, and the page hides it."""

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Block:
    """A tool's answer, with an article if it has an extraction.

    Attributes:
        answer: the tool's answer.
        anchor: the article's name in the page and in the addresses of its downloads.
        about: the profile and settings behind the answer.
        picture: its picture's address.
        heat: index of an entity in the result -> its heat map's address.
        review: the waiting review of its close decisions, or the review that produced it.
        close: the close decisions that a review would ask first.
    """

    answer: Answer
    anchor: str | None = None
    about: About | None = None
    picture: str | None = None
    heat: Mapping[int, str] = field(default_factory=dict)
    review: Reviewed | None = None
    close: int = 0

    @property
    def article(self) -> Markup | None:
        """The extraction's article."""
        if self.anchor is None or self.about is None or self.answer.extraction is None:
            return None
        return Markup(fragment(self.answer.extraction, self.about, self.anchor, self.picture, self.heat))

    @property
    def has_pins(self) -> bool:
        """Whether anything is drawn on the picture."""
        found = self.answer.extraction
        return self.picture is not None and found is not None and any(entity.box for entity in found.entities)

    @property
    def has_masks(self) -> bool:
        """Whether a mask is drawn on the picture."""
        found = self.answer.extraction
        return self.has_pins and found is not None and any(entity.mask for entity in found.entities)

    @property
    def decide(self) -> Markup:
        """The possible decisions."""
        form = Markup(questions(self.review)) if self.review else ""
        return Markup(_environment().get_template("decide.html.j2").render(block=self, form=form))


@dataclass
class Turn:
    """A message and its answers; `doing` while the answer is in progress."""

    said: str
    blocks: list[Block] = field(default_factory=list)
    text: str = ""
    doing: str | None = None


def anchor(call: str) -> str:
    """A tool call's name in the page, reduced to letters and digits."""
    return "r" + hashlib.sha256(call.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def turn(shown: Turn) -> str:
    """One turn of the conversation."""
    return _environment().get_template("turn.html.j2").render(turn=shown)


def problem(message: str) -> str:
    """A message that could not be answered, with the reason."""
    return _environment().get_template("problem.html.j2").render(message=message)


def questions(review: Reviewed) -> str:
    """A review's questions as a form."""
    asked = [(question.key, *words.phrase_question(question), question.choices) for question in review.questions]
    types = any(question.kind == "label" for question in review.questions)
    return _environment().get_template("review.html.j2").render(review=review, questions=asked, types=types)


def jobs(shown: Sequence[Job]) -> str:
    """The visitor's batch jobs, the newest first."""
    return _environment().get_template("jobs.html.j2").render(jobs=list(reversed(shown)))


def part(name: str, **values: object) -> str:
    """A fixed part of the page."""
    return _environment().get_template(f"{name}.html.j2").render(**values)


@cache
def style() -> str:
    """The page's style rules; the rules of articles are nested, so that they do not affect Gradio's elements."""
    own = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    return f"{own}\n.np {{\n{article_style()}\n}}\n"


@cache
def script() -> str:
    """The page's script, with `bindArticle`."""
    return article_script() + (_TEMPLATES / "page.js").read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    own = environment().overlay(loader=FileSystemLoader(_TEMPLATES))
    # Keep line breaks as written.
    lines = {"lines": lambda text: "\n".join(map(printable, str(text).split("\n")))}
    own.filters = own.filters | lines | {"said": lambda text: str(text).removeprefix(AS_POST)}
    return own
