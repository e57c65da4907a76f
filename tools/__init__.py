"""One capability a file. A tool owns weights, pre- and post-processing and batching; it knows nothing of the graph."""

if __name__ != "namepin.tools":
    raise ImportError("this folder is the package namepin.tools: import it under that name")
