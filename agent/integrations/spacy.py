"""A spaCy component: `nlp.add_pipe("namepin")` sets a document's entities, and where they are in its picture.

nlp = spacy.blank("en")
nlp.add_pipe("namepin", config={"profile": "starter"})
doc = nlp.make_doc("So proud of Eileen Collins")
doc._.picture = "astronaut.jpg"
doc = nlp(doc)
[(span.text, span.label_, span._.namepin.box) for span in doc.ents]
"""

from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans

from namepin.agent.api import Namepin
from namepin.agent.posts import Picture
from namepin.tools.types import Entity, Extraction

PICTURE, RESULT, ENTITY = "picture", "namepin", "namepin"
"""Extension attributes: `doc._.picture`, `doc._.namepin` (a `Result`) and `span._.namepin` (an `Entity`)."""


class PinComponent:
    """Reads each document's text, and its picture if `doc._.picture` is set.

    Args:
        pin: the profile.
        fine: whether a span's label is the fine type where there is one, such as `musician`; else the coarse type.
    """

    def __init__(self, pin: Namepin, *, fine: bool = False) -> None:
        self.pin, self.fine = pin, fine
        for holder, name in ((Doc, PICTURE), (Doc, RESULT), (Span, ENTITY)):
            if not holder.has_extension(name):
                holder.set_extension(name, default=None)

    def __call__(self, doc: Doc) -> Doc:
        """Set `doc.ents`, `doc._.namepin` and each entity's `span._.namepin`.

        A span covers every token that the entity touches. Of overlapping spans the longest stays.

        Raises:
            NamepinError: as `Namepin.extract`.
        """
        if not doc.text.strip():
            return doc
        picture: Picture | None = doc._.get(PICTURE)
        result = self.pin.extract(doc.text, picture)
        doc._.set(RESULT, result)
        doc.ents = filter_spans([*self._spans(doc, result)])
        return doc

    def _spans(self, doc: Doc, result: Extraction) -> list[Span]:
        spans = []
        for entity in result.entities:
            span = doc.char_span(entity.start, entity.end, label=self._label(entity), alignment_mode="expand")
            if span is not None:
                span._.set(ENTITY, entity)
                spans.append(span)
        return spans

    def _label(self, entity: Entity) -> str:
        return (self.fine and entity.fine_label) or entity.label


@Language.factory("namepin", assigns=["doc.ents"], default_config={"profile": None, "settings": {}, "fine": False})
def make_component(nlp: Language, name: str, profile: str | None, settings: dict[str, Any], fine: bool) -> PinComponent:
    """The component of a spaCy config: a profile, settings that override it, and the kind of label.

    Raises:
        NamepinError: E20x for the profile or a setting.
    """
    return PinComponent(Namepin.from_profile(profile, **settings), fine=fine)
