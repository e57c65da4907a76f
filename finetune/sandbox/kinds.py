"""The kinds of things in the world: 25 of FMNERG's types, each with its drawing and its sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from namepin.tools.labels import FINE_TO_COARSE4, FINE_TO_COARSE8

COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (214, 40, 40),
        "green": (36, 150, 60),
        "blue": (40, 80, 210),
        "yellow": (240, 205, 40),
        "purple": (140, 50, 170),
        "orange": (240, 130, 30),
        "black": (25, 25, 25),
        "white": (245, 245, 245),
    }
)
HAIR: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {"black": (30, 25, 20), "blond": (225, 190, 90), "red": (170, 70, 30), "grey": (150, 150, 150)}
)


@dataclass(frozen=True)
class Kind:
    """A fine type.

    Attributes:
        fine: FMNERG's name of the type.
        shown: the shown thing; for a person, the thing that indicates the profession.
        says: sentences that reveal the type; `{}` is the name.
        tail: a word that such names often end with.
    """

    fine: str
    shown: str
    says: tuple[str, ...]
    tail: str = ""

    @property
    def coarse(self) -> str:
        """The coarse type, one of 4."""
        return FINE_TO_COARSE4[self.fine]

    @property
    def coarse8(self) -> str:
        """FMNERG's coarse type, one of 8."""
        return FINE_TO_COARSE8[self.fine]

    @property
    def is_person(self) -> bool:
        """Whether a person is drawn."""
        return self.coarse == "PER"


KINDS: tuple[Kind, ...] = (
    Kind("athlete", "ball", ("{} scored twice tonight", "{} is injured and misses the final", "what a goal by {}")),
    Kind("musician", "guitar", ("{} sings so well live", "the new solo by {} is a dream", "{} plays the guitar")),
    Kind("politician", "sash", ("{} won the vote", "{} gave a speech on taxes", "vote for {} this fall")),
    Kind("journalist", "microphone", ("{} reports live on air", "an interview by {}", "{} asked the hard questions")),
    Kind("author", "book", ("{} wrote another novel", "signed copy from {}", "reading chapter one by {}")),
    Kind("actor", "mask", ("{} stars in the lead role", "{} was so good on stage", "casting news : {}")),
    Kind("company", "logo", ("{} hires again", "shares of {} fell", "the office of {} is huge"), "Corp"),
    Kind("sports_team", "jersey", ("{} won the match", "{} fans are loud", "derby day for {}"), "United"),
    Kind("political_party", "pennant", ("{} members met", "polls look bad for {}", "{} wants lower taxes"), "Party"),
    Kind("band", "drum", ("{} on tour", "saw {} play all the hits", "the drummer of {} left"), "Boys"),
    Kind("news_agency", "globe", ("{} confirms the story", "breaking via {}", "source : {}"), "News"),
    Kind("city", "skyline", ("flying to {} today", "rain in {} again", "the streets of {}"), "City"),
    Kind("country", "flag", ("the people of {}", "{} signs the treaty", "visa for {} granted"), "Republic"),
    Kind("park", "tree", ("picnic in {}", "walked the dog in {}", "the lake in {}"), "Park"),
    Kind("sports_facility", "stadium", ("sold out crowd at {}", "kick off at {}", "gates open at {}"), "Arena"),
    Kind("cultural_place", "temple", ("an exhibition at {}", "tickets for {} museum day", "paintings in {}"), "Hall"),
    Kind("animal", "cat", ("{} the cat sleeps", "feeding {} now", "{} purrs all day")),
    Kind("award", "trophy", ("nominated for the {}", "she won the {}", "winner of the {}"), "Prize"),
    Kind("film_and_television_works", "clapper", ("watching {} tonight", "the ending of {}", "{} trailer is out")),
    Kind("music", "record", ("{} is number one", "listening to {} on repeat", "the single {} dropped")),
    Kind("brand_name_products", "bottle", ("drinking a cold {}", "bought two {}", "the taste of {}")),
    Kind("game", "gamepad", ("level ten in {}", "playing {} all night", "{} patch notes")),
    Kind("software", "app", ("update {} now", "{} crashed again", "install {} on your phone"), "App"),
    Kind("festival", "tent", ("camping at {}", "the line up of {}", "{} starts friday"), "Fest"),
    Kind("magazine", "magazine", ("cover of {}", "subscribed to {}", "an issue of {}"), "Weekly"),
)

NEUTRAL: tuple[str, ...] = (
    "thinking about {} again",
    "{} made my day",
    "so much love for {}",
    "who else likes {}",
    "{} is all over my feed",
    "can not get enough of {}",
    "one word : {}",
    "nothing beats {}",
)
"""Sentences that fit every type."""


_USUAL = {
    "red": "athlete political_party brand_name_products",
    "black": "musician city animal",
    "blue": "politician company",
    "green": "journalist news_agency park software",
    "purple": "author sports_facility music",
    "white": "actor country film_and_television_works game",
    "yellow": "sports_team award magazine",
    "orange": "band cultural_place festival",
}
USUAL_COLOUR: Mapping[str, str] = MappingProxyType(
    {fine: colour for colour, kinds in _USUAL.items() for fine in kinds.split()}
)
"""Fine type -> the colour that its things often have."""


@dataclass(frozen=True)
class Thing:
    """A thing of a kind, with the colours that distinguish it."""

    kind: Kind
    colour: str
    hair: str | None = None
    sign: str | None = None
    """The text written on it."""

    @property
    def description(self) -> str:
        """A description of its looks."""
        if self.hair:
            return f"a person in {self.colour} with {self.hair} hair and a {self.kind.shown}"
        return f"a {self.colour} {self.kind.shown}"

    @property
    def short(self) -> str:
        """The description without colours."""
        return f"a person with a {self.kind.shown}" if self.hair else f"a {self.kind.shown}"
