"""Tools: one per file. A tool owns its weights, pre- and post-processing and batching, and does not know the graph."""

if __name__ != "namepin.tools":
    raise ImportError("this folder is the package namepin.tools: import it under that name")
