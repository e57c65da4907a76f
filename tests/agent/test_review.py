"""A person decides: the run waits, resumes after a restart, refuses invalid answers, and gives training rows."""

import asyncio
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.chat.terminal import Terminal
from namepin.agent.checkpointer import open_saver
from namepin.agent.config.settings import load_settings
from namepin.agent.review import Review
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.agent.stores.training_rows import save_rows
from namepin.evals.run import load_dataset
from namepin.finetune.data.mentions import read_split
from namepin.finetune.recipes.matcher import MatcherRecipe
from namepin.finetune.recipes.tagger import TaggerRecipe
from namepin.finetune.tagger.data import read_fmnerg
from namepin.finetune.tagger.recipe import spec_of
from namepin.graphs.policy import GatePolicy, ReviewPolicy
from namepin.graphs.review_nodes import close_calls
from namepin.tools.errors import NamepinError
from support.forked import Forked
from support.review_pin import TEXT, answer_and_end, make_pin
from support.scripted_tools import ScriptedReranker, ScriptedTagger


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Review]:
    def review(text: str = TEXT, margin: float = 0.1, pin: Namepin | None = None, **more: Any) -> Review:
        picture = io.BytesIO()
        Image.new("RGB", (64, 48), "teal").save(picture, "PNG")
        given = pin or make_pin(margin)
        opened = partial(open_saver, tmp_path)
        return given.review({"id": "p", "text": text}, picture.getvalue(), open_saver=opened, **more)

    return review


def by_name(review: Review) -> dict[str, Any]:
    assert review.extraction is not None
    return {entity.text: entity for entity in review.extraction.entities}


def test_review_asks_close_decisions_and_applies_answers(begin: Callable[..., Review]) -> None:
    reranker = ScriptedReranker()
    review = begin(pin=make_pin(reranker=reranker))
    (asked,) = review.questions
    assert (asked.key, asked.mention, asked.choices) == ("label:2", "Oslo", ("city", "country"))
    assert (asked.value, asked.threshold) == (0.1985, 0.2) and review.extraction is None
    review.answer({"label:2": "country"})
    assert [(q.key, q.choices) for q in review.questions] == [(f"place:{i}", ("yes", "no")) for i in range(3)]
    review.answer({"place:0": True, "place:1": "no", "place:2": False})
    assert review.questions == () and len(review.answered) == 4
    found = by_name(review)
    assert (found["Oslo"].fine_label, found["Oslo"].reranked, found["Oslo"].groundable) == ("country", False, False)
    assert found["Anna"].groundable and found["Anna"].box and found["Bob"].groundable is False and not found["Bob"].box
    assert "review" in found["Oslo"].provenance and found["Oslo"].provenance.count("review") == 1
    assert found["Bob"].reranked and len(reranker.seen) == 1, "a hard mention outside the band is the reranker's"


def test_review_without_close_decisions_asks_nothing(begin: Callable[..., Review]) -> None:
    pin = make_pin(0.05)
    review = begin("Anna met Bob", pin=pin)
    assert review.questions == ()
    plain = pin.extract({"id": "p", "text": "Anna met Bob"}, None)
    assert [(e.text, e.label) for e in plain.entities] == [(t, e.label) for t, e in by_name(review).items()]
    assert plain.fingerprint != review.extraction.fingerprint, "an answer is no function of the tools"  # type: ignore[union-attr]


def test_extract_without_review_asks_nothing(begin: Callable[..., Review]) -> None:
    extraction = make_pin().extract({"id": "p", "text": TEXT})
    assert extraction.status == "ok" and "review" not in {r for e in extraction.entities for r in e.provenance}


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, "'Oslo' has no answer"),
        ({"label:2": "politician"}, "not a choice"),
        ({"label:2": ["city"]}, "not a choice"),
        ({"label:2": True}, "not a choice"),
        ({"label:2": "city", "label:0": "actor"}, "there is no question"),
    ],
)
def test_review_with_invalid_answer_raises_e333_and_stays_open(
    begin: Callable[..., Review], answers: dict[str, Any], said: str
) -> None:
    review = begin()
    with pytest.raises(NamepinError, match=f"E333.*{said}"):
        review.answer(answers)
    (still,) = begin().questions
    assert still.key == "label:2"
    assert review.answer({"label:2": "city"}).questions[0].kind == "place"


def test_review_answer_to_answered_question_raises_e333(begin: Callable[..., Review]) -> None:
    first, second = begin(), begin()
    first.answer({"label:2": "city"})
    with pytest.raises(NamepinError, match="E333.*were answered already"):
        second.answer({"label:2": "country"})
    assert begin().questions == first.questions


def test_review_thread_with_other_post_or_tools_raises_e334(begin: Callable[..., Review]) -> None:
    begin(thread="mine")
    with pytest.raises(NamepinError, match="E334.*another post"):
        begin("Bob in Oslo", thread="mine")
    other = make_pin(tagger=ScriptedTagger(config={"weights": 2}))
    with pytest.raises(NamepinError, match="E334.*other tools"):
        begin(thread="mine", pin=other)


def test_review_in_new_process_resumes_without_retagging(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "p.png")

    def process(answers: dict[str, str] | None) -> Any:
        ran = Forked(answer_and_end, tmp_path / "p.png", tmp_path, answers)
        out, said = ran.communicate()
        assert ran.wait() == 9, said.decode()
        return json.loads(out)

    assert process(None) == [["label:2"], None, 1]
    asked, labels, tagged = process({"label:2": "country"})
    assert asked == ["place:0", "place:1", "place:2"] and labels is None and tagged == 0, "nothing is tagged twice"
    asked, labels, tagged = process({"place:0": "yes", "place:1": "no", "place:2": "no"})
    assert asked == [] and labels == ["politician", "company", "country"] and tagged == 0


def test_areview_inside_loop_applies_answers(tmp_path: Path) -> None:
    async def run() -> Review:
        pin = make_pin(0.0)
        opened = partial(open_saver, tmp_path)
        review = await pin.areview({"id": "p", "text": TEXT}, None, open_saver=opened)
        return await review.aanswer({"label:2": "city"})

    assert by_name(asyncio.run(run()))["Oslo"].fine_label == "city"


def decided(begin: Callable[..., Review]) -> Review:
    review = begin().answer({"label:2": "country"})
    return review.answer({"place:0": True, "place:1": False, "place:2": False})


def test_save_rows_of_reviewed_extraction_writes_rows_once(begin: Callable[..., Review], tmp_path: Path) -> None:
    review = decided(begin)
    assert review.extraction is not None and review.post.picture is not None
    files = save_rows(tmp_path / "rows", review.extraction, review.post.picture.image)
    assert save_rows(tmp_path / "rows", review.extraction, review.post.picture.image) == files, "once is enough"

    (example,) = read_fmnerg(tmp_path / "rows" / "tagger", "train", spec_of(TaggerRecipe(scheme="8/51")))
    types = [(" ".join(example.words[s.start : s.end]), dict(s.fine)) for s in example.spans]
    assert types == [("Anna", {"politician": 1.0}), ("Bob", {"company": 1.0}), ("Oslo", {"country": 1.0})]

    rows = read_split(MatcherRecipe(root=str(tmp_path / "rows" / "matcher"), dataset="fmnerg"), "train").rows
    assert [(row.query.text, row.groundable) for row in rows] == [("Anna", True), ("Bob", False), ("Oslo", False)]
    assert load_dataset("fmnerg", tmp_path / "rows" / "matcher", "train").posts[0].post.text == TEXT


def test_save_rows_without_decision_or_fine_type_raises_e335(begin: Callable[..., Review], tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E335.*has no decision"):
        save_rows(tmp_path / "rows", make_pin().extract(TEXT))
    review = decided(begin)
    assert review.extraction is not None
    assert save_rows(tmp_path / "rows", review.extraction) == [tmp_path / "rows" / "tagger" / "txt_fine" / "train.txt"]
    coarse = [e.model_copy(update={"fine_label": None}) for e in review.extraction.entities]
    with pytest.raises(NamepinError, match="E335.*no fine type"):
        save_rows(tmp_path / "rows", review.extraction.model_copy(update={"entities": tuple(coarse)}))


async def test_chat_review_asks_and_accepts_choice_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMEPIN_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(ProfilePool, "get", lambda self, profile, overrides=None: make_pin(0.0))
    terminal = Terminal(load_settings(), (), None)
    out = io.StringIO()
    terminal.console.file = out
    rows = tmp_path / "rows"
    said = f"{TEXT}\n\n/review {rows}\nfive\n\n2"
    await terminal.run(io.StringIO(said))
    printed = out.getvalue()
    assert "What is 'Oslo'? (entropy 0.199 nats, gamma 0.2)\n1 city  2 country" in printed
    assert "E333" in printed and "choose from city, country" in printed
    assert "Kept as training rows" in printed and terminal.reviewing is None
    assert "Oslo\tB-location\tB-country" in (rows / "tagger" / "txt_fine" / "train.txt").read_text("utf-8")
    assert terminal.last is not None and terminal.last.entities[2].fine_label == "country"


def test_close_calls_count_equals_review_questions(begin: Callable[..., Review]) -> None:
    pin = make_pin()
    plain = pin.extract({"id": "p", "text": TEXT}, begin(pin=pin).post.picture.image)  # type: ignore[union-attr]
    assert close_calls(plain.entities, ReviewPolicy(match_margin=0.1), GatePolicy(), 0.5) == 4, (
        "Oslo's type, and three places"
    )
    assert close_calls(plain.entities, ReviewPolicy(match_margin=0.05), GatePolicy(), 0.5) == 1
