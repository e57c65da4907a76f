"""Namepin finds every name in a post, its type, and its place (box, mask) in the post's picture.

    from namepin import Namepin
    result = Namepin.from_profile("starter").extract("Eileen Collins ...", image="photo.jpg")

The names are imported when first used, so that `import namepin` costs almost nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from namepin.agent.api import Namepin
    from namepin.agent.result import Result
    from namepin.graphs.step import StepEvent
    from namepin.tools.errors import NamepinError, ToolUnavailable
    from namepin.tools.types import Entity, Extraction, Grounding, ImageRef, Mask, Mention, Notice, Post

# Every module of Namepin imports this one first, so usage reporting of other packages is off before they are imported.
# A value that the user has set stays.
for _name, _off in {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_ERROR_REPORTING": "False",
}.items():
    os.environ.setdefault(_name, _off)

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
    "Result",
    "StepEvent",
    "ToolUnavailable",
]

_HOMES = {
    "Namepin": "namepin.agent.api",
    "Result": "namepin.agent.result",
    "StepEvent": "namepin.graphs.step",
    "NamepinError": "namepin.tools.errors",
    "ToolUnavailable": "namepin.tools.errors",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'namepin' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "namepin.tools.types")), name)


def __dir__() -> list[str]:
    return __all__
