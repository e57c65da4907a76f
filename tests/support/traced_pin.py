"""A pin with scripted tools whose runs are traced."""

from typing import Any

from namepin.agent.api import Namepin
from namepin.agent.config.sections import TracingSettings
from namepin.agent.config.settings import Settings
from namepin.graphs.calls import LiveCalls
from support.scripted_tools import ScriptedTagger, make_tools

TEXT = "Anna met Zorin in Oslo"


def pin(tagger: ScriptedTagger | None = None, **tracing: Any) -> Namepin:
    settings = Settings(profile="test", tracing=TracingSettings(**tracing))
    calls = LiveCalls(make_tools(**({"tagger": tagger} if tagger else {})))
    return Namepin(settings, calls, tags=["dataset:tweets"])
