"""A pin whose decisions about `TEXT` are close."""

from typing import Any

from namepin.agent.api import Namepin
from namepin.agent.config.settings import Settings
from namepin.graphs.calls import LiveCalls
from namepin.graphs.policy import ReviewPolicy
from support.scripted_tools import RegionMatcher, make_tools

TEXT = "Anna met Bob in Oslo"
"""Anna is sure, Bob is hard, Oslo lies in the gate's margin band; all match with 0.6."""


def make_pin(margin: float = 0.1, **tools: Any) -> Namepin:
    settings = Settings(profile="test", review=ReviewPolicy(match_margin=margin))
    return Namepin(settings, LiveCalls(make_tools(**({"matcher": RegionMatcher()} | tools))))
