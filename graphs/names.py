"""Names of the graphs, as profiles and cassettes write them (there with a version). Imports nothing heavy."""

from enum import StrEnum


class GraphName(StrEnum):
    """The graphs that a post can walk through."""

    gem = "gem"
    riveg = "riveg"
