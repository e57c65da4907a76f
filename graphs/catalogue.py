"""Which graphs there are, by the name that profiles and cassettes use, without its version."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from graphs import gem, riveg
from graphs.textual import Graph

GRAPHS: Mapping[str, Callable[[], Graph]] = MappingProxyType({"gem": gem.build, "riveg": riveg.build})
