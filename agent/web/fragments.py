"""The pieces of HTML of the page. The templates escape all content of posts."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from secrets import token_hex

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from namepin.agent.chat import phrasing as words
from namepin.agent.chat.state import Answer
from namepin.agent.render.html import About, article_script, article_style, environment, fragment, outline_of
from namepin.agent.render.view import COLOURS, presence, printable, split_code
from namepin.agent.server.reviews import Reviewed
from namepin.agent.web.steps import Steps
from namepin.tools.types import ImageRef, Mask

AS_POST = "post: "
"""Prefix that makes any message a post; examples begin with it, and the page hides it."""

_QUESTIONS = {"no": "why is {} not in the picture?", "cannot tell": "explain {}"}
"""What the page offers to ask about a name, by its presence."""
_TEMPLATES = Path(__file__).parent / "templates"
_CODE = re.compile(r"`([^`\n]+)`")


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
        image: the size of the picture; None without one.
    """

    answer: Answer
    anchor: str | None = None
    about: About | None = None
    picture: str | None = None
    heat: Mapping[int, str] = field(default_factory=dict)
    review: Reviewed | None = None
    close: int = 0
    image: ImageRef | None = None

    @property
    def article(self) -> Markup | None:
        """The extraction's article."""
        found = self.answer.extraction
        if self.answer.kind != "extraction" or self.anchor is None or self.about is None or found is None:
            return None
        forms = ("json", "csv", *(["png"] if self.picture else []), "html")
        downloads = {form.upper(): f"/page/results/{self.anchor}.{form}" for form in forms}
        return Markup(fragment(found, self.about, self.anchor, self.picture, self.heat, downloads))

    @property
    def outline(self) -> str:
        """The one mask that the answer is about, as an SVG path; empty without one."""
        found, index = self.answer.extraction, self.answer.about
        if self.answer.kind != "mask":
            return ""
        if found is not None and index is not None:
            mask = found.entities[index].mask
        else:
            mask = Mask.model_validate(self.answer.facts["mask"]) if "mask" in self.answer.facts else None
        return outline_of(mask) if mask else ""

    @property
    def hue(self) -> int:
        """The colour of the name that the answer is about."""
        return (self.answer.about or 0) % len(COLOURS)

    @property
    def ask(self) -> list[str]:
        """Questions that the post's result suggests."""
        found = self.answer.extraction
        if self.answer.kind != "extraction" or found is None or not found.entities:
            return []
        asked = []
        if found.image is not None:
            whose = next((e for e in found.entities if presence(e) in _QUESTIONS), found.entities[0])
            asked.append(_QUESTIONS.get(presence(whose), "why is {} in the picture?").format(printable(whose.text)))
            boxed = next((e for e in found.entities if e.box), None)
            asked += [f"mask {printable(boxed.text)}"] if boxed else []
        else:
            asked.append(f"how sure are you about {printable(found.entities[0].text)}?")
        return [*(one for one in asked if len(one) < 80), "as CSV"]

    @property
    def decide(self) -> Markup:
        """The possible decisions."""
        form = Markup(questions(self.review)) if self.review else ""
        return Markup(_environment().get_template("decide.html.j2").render(block=self, form=form))


@dataclass
class Turn:
    """A message and its answers.

    Attributes:
        said: the message.
        blocks: the tools' answers.
        text: the answer's text.
        steps: the steps so far, while the answer is in progress.
        ask: questions to ask next.
        picture: the address of the picture that came with the message, while the answer is in progress.
        image: its size.
    """

    said: str
    blocks: list[Block] = field(default_factory=list)
    text: str = ""
    steps: Steps | None = None
    ask: list[str] = field(default_factory=list)
    picture: str | None = None
    image: ImageRef | None = None


def anchor(call: str) -> str:
    """A tool call's name in the page, reduced to letters and digits."""
    return "r" + hashlib.sha256(call.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def turn(shown: Turn) -> str:
    """One turn of the conversation."""
    return _environment().get_template("turn.html.j2").render(turn=shown)


def problem(message: str) -> str:
    """Something that cannot be shown, with the reason."""
    return _environment().get_template("problem.html.j2").render(message=message)


def end(refused: str = "") -> str:
    """The end of an answer, for the page's script; or the reason why a message could not be answered.

    Each end has its own number: Gradio does not put the same HTML into the page twice.
    """
    return _environment().get_template("end.html.j2").render(refused=refused, number=token_hex(8))


def questions(review: Reviewed) -> str:
    """A review's questions as a form."""
    asked = [(question.key, *words.phrase_question(question), question.choices) for question in review.questions]
    types = any(question.kind == "label" for question in review.questions)
    return _environment().get_template("review.html.j2").render(review=review, questions=asked, types=types)


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


def _lines(text: object) -> str:
    return "\n".join(map(printable, str(text).split("\n")))


def _coded(message: object) -> Markup:
    """A message with its code in small print at its end."""
    sentences, code = split_code(_lines(message))
    return Markup('{} <small class="np-code">{}</small>' if code else "{}{}").format(sentences, code)


def _prose(text: object) -> Markup:
    """Text in paragraphs and lists, with `code` between backticks."""
    parts: list[Markup] = []
    for block in _lines(text).split("\n\n"):
        rows = [Markup(_CODE.sub(r"<code>\1</code>", str(escape(row)))) for row in block.split("\n")]
        items: list[Markup] = []
        for row in [*rows, None]:
            if row is not None and row.startswith("- "):
                items.append(Markup("<li>{}</li>").format(Markup(row[2:])))
                continue
            if items:
                parts.append(Markup("<ul>{}</ul>").format(Markup("").join(items)))
                items = []
            if row:
                parts.append(Markup('<p dir="auto">{}</p>').format(row))
    return Markup("").join(parts)


@cache
def _environment() -> Environment:
    own = environment().overlay(loader=FileSystemLoader(_TEMPLATES))
    # Keep line breaks as written.
    lines = {"lines": _lines, "prose": _prose, "coded": _coded}
    own.filters = own.filters | lines | {"said": lambda text: str(text).removeprefix(AS_POST)}
    return own
