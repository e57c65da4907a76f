"""`/review` in the terminal: the last post's close decisions, one question at a time."""

from pathlib import Path

from namepin.agent.chat import phrasing
from namepin.agent.posts import Ready, make_post
from namepin.agent.review import Review
from namepin.agent.stores.pictures import Pictures
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.agent.stores.training_rows import save_rows
from namepin.graphs.review_nodes import Question, check_answers
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction


class Reviewing:
    """The review of one post as text: questions and summary.

    Args:
        review: the started run.
        profile: the profile's name, for the summary.
        rows: folder that gets the answers as training rows; None for none.
    """

    def __init__(self, review: Review, profile: str, rows: Path | None) -> None:
        self.review, self.profile, self.rows = review, profile, rows
        self._given: dict[str, str] = {}

    @classmethod
    async def begin(
        cls, last: Extraction | None, pins: ProfilePool, pictures: Pictures, profile: str, rows: Path | None
    ) -> "Reviewing":
        """Run the last post again, and stop at close decisions.

        Raises:
            NamepinError: E330 when there is no post yet; as `Namepin.areview`.
        """
        if last is None:
            raise NamepinError("E330", "there is no result yet", mend="send a post first")
        pin = pins.get(profile)
        prepared = pin.ready(make_post({"id": last.id, "text": last.text}))
        picture = pictures.open(last.image) if last.image else None
        return cls(await pin.areview(Ready(prepared.post, picture, prepared.notices)), profile, rows)

    @property
    def over(self) -> bool:
        """Whether everything is decided."""
        return not self.review.questions

    def next(self) -> str:
        """The next question, or the result."""
        if not self.over:
            return _phrase_step(self._open())
        assert self.review.extraction is not None
        text = phrasing.summary(self.review.extraction, self.profile)
        if not any("review" in entity.provenance for entity in self.review.extraction.entities):
            return f"{text}\n\nNo decision was close, so there was no question."
        if self.rows is None:
            return text
        picture = self.review.post.picture
        files = save_rows(self.rows, self.review.extraction, picture.image if picture else None)
        return f"{text}\n\nKept as training rows: {', '.join(map(str, files))}"

    async def answer(self, message: str) -> None:
        """Record an answer: a choice, or its number.

        Raises:
            NamepinError: E333 for an invalid choice; the question stays open.
        """
        question = self._open()
        text = message.strip()
        if text.isdecimal() and 1 <= int(text) <= len(question.choices):
            text = question.choices[int(text) - 1]
        text = text.casefold().replace(" ", "_") if text not in question.choices else text
        self._given |= check_answers([question], {question.key: text})
        if len(self._given) == len(self.review.questions):
            given, self._given = self._given, {}
            await self.review.aanswer(given)

    def _open(self) -> Question:
        return next(question for question in self.review.questions if question.key not in self._given)


def _phrase_step(question: Question) -> str:
    what, why = phrasing.phrase_question(question)
    choices = "  ".join(f"{i} {choice.replace('_', ' ')}" for i, choice in enumerate(question.choices, 1))
    return f"{what} ({why})\n{choices}"
