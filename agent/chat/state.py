"""The state of a conversation and the context of its tools. The state holds small JSON values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired

from langchain.agents import AgentState
from langchain.agents.middleware.types import OmitFromInput
from typing_extensions import TypedDict  # pydantic requires it before Python 3.12

from namepin.agent.stores.heat_maps import HeatMaps
from namepin.agent.stores.pictures import Attachment, Pictures
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.tools.types import Extraction, Frozen

Json = dict[str, Any]
Kind = Literal["extraction", "explanation", "comparison", "place", "mask", "export", "help", "refusal"]

MAX_SEEN = 20
"""Number of posts that a conversation remembers; follow-ups are about the last post."""


class RememberedPost(TypedDict):
    """A post of the conversation: its `Extraction`, and the profile and settings behind it."""

    extraction: Json
    profile: str
    overrides: Json


def _with_new(known: list[RememberedPost], new: list[RememberedPost]) -> list[RememberedPost]:
    """The last posts; parallel calls each add theirs."""
    return [*known, *new][-MAX_SEEN:]


def _last_given(_: Any, new: Any) -> Any:
    return new


class ChatState(AgentState[Any]):
    """LangChain's agent state (the messages), the posts so far, and the picture that came with the last message."""

    picture: NotRequired[Annotated[Json | None, _last_given]]
    """An `ImageRef`; the bytes are in `Pictures`."""

    picture_notices: NotRequired[Annotated[list[Json] | None, _last_given]]
    """The warnings (`Notice`) of a message whose picture was given up."""

    seen: NotRequired[Annotated[list[RememberedPost], OmitFromInput, _with_new]]
    """Never part of a client's input, because it names settings. An update adds to it."""


def picture_update(attached: Attachment) -> Json:
    """The update of `ChatState` that attaches a picture to the next post."""
    ref = attached.ref and attached.ref.model_dump(mode="json")
    return {"picture": ref, "picture_notices": [notice.model_dump(mode="json") for notice in attached.notices]}


@dataclass(frozen=True)
class ChatContext:
    """Everything that the tools of one conversation may use. A model cannot name files.

    Attributes:
        pins: the profiles.
        pictures: the pictures of this user's conversations, by sha256.
        profile: the profile that reads posts.
        overrides: settings that override the profile.
        heat: store of heat maps; None if they are never drawn.
    """

    pins: ProfilePool
    pictures: Pictures
    profile: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    heat: HeatMaps | None = None


class Answer(Frozen):
    """A tool's result for people (`words`), for a model (`facts`) and for programs (`extraction`, `table`).

    Attributes:
        kind: the kind of the answer.
        words: the answer as sentences.
        facts: the answer as JSON.
        extraction: the post's result.
        table: rows with the same keys.
        about: index of the one name of the extraction that the answer is about.
    """

    kind: Kind
    words: str
    facts: Json = {}
    extraction: Extraction | None = None
    table: list[dict[str, str]] | None = None
    about: int | None = None
