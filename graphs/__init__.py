"""LangGraph state machines, and their record and replay."""

if __name__ != "namepin.graphs":
    raise ImportError("this folder is the package namepin.graphs: import it under that name")
