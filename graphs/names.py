"""Names of the graphs in profiles; cassettes add a version. Imports nothing heavy."""

from enum import StrEnum


class GraphName(StrEnum):
    """The graphs that a post can run through."""

    gem = "gem"
    riveg = "riveg"
    mllm = "mllm"


GEM_MLLM = "gem+mllm"
"""GEM's graph with one model behind its gate: `graph = "gem"` with `fallback = "mllm"`."""
