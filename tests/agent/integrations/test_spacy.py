"""The spaCy component."""

import pytest

spacy = pytest.importorskip("spacy", reason="spaCy has no wheel for this Python: pip install spacy")

from namepin.agent.api import Namepin  # noqa: E402
from namepin.agent.integrations.spacy import PinComponent  # noqa: E402
from namepin.tools.types import Entity  # noqa: E402
from support.paths import ROOT  # noqa: E402

PHOTO = ROOT / "examples" / "astronaut.jpg"


def test_spacy_pipe_with_picture_sets_entities_and_boxes() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("namepin", config={"profile": "starter"})
    doc = nlp.make_doc("So proud of Eileen Collins at NASA")
    doc._.picture = PHOTO
    doc = nlp(doc)
    assert [span.text for span in doc.ents] == ["Eileen Collins", "NASA"]
    assert doc.ents[0].label_ == "PER" and doc._.namepin.image.width == 512
    entity = doc.ents[0]._.namepin
    assert isinstance(entity, Entity) and entity.box is not None


def test_spacy_pipe_with_fine_option_sets_fine_labels() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("namepin", config={"fine": True, "settings": {"segmenter__backend": "off"}})
    doc = nlp("Angelina Jolie")
    assert doc.ents[0].label_ == doc.ents[0]._.namepin.fine_label
    assert not nlp("").ents


def test_spacy_component_where_tokens_differ_covers_every_touched_token() -> None:
    nlp = spacy.blank("en")
    words = ["Angelina", "Jolie/Brad", "in", "London"]
    doc = PinComponent(Namepin.from_profile("starter"))(spacy.tokens.Doc(nlp.vocab, words=words))
    found = {span.text: span._.namepin.text for span in doc.ents}
    assert found["Angelina Jolie/Brad"].startswith("Angelina Jolie") and found["London"] == "London"
