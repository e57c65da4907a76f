"""Namepin pins every name in a post to what it is (type) and where it is (box, mask) in the post's picture.

    from namepin import Namepin
    result = Namepin.from_profile("starter").extract("Eileen Collins ...", image="photo.jpg")

The names are imported when first used, so that `import namepin` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.api import Namepin
    from graphs.steps import StepEvent
    from tools.errors import NamepinError, ToolUnavailable
    from tools.types import Entity, Extraction, Grounding, ImageRef, Mask, Mention, Notice, Post

__all__ = [
    "Entity",
    "Extraction",
    "Grounding",
    "ImageRef",
    "Mask",
    "Mention",
    "Namepin",
    "NamepinError",
    "Notice",
    "Post",
    "StepEvent",
    "ToolUnavailable",
]

_HOMES = {
    "Namepin": "agent.api",
    "StepEvent": "graphs.steps",
    "NamepinError": "tools.errors",
    "ToolUnavailable": "tools.errors",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'namepin' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "tools.types")), name)


def __dir__() -> list[str]:
    return __all__
