"""One capability a file. A tool owns weights, pre- and post-processing and batching; it knows nothing of the graph."""
