"""Many posts: read as a stream, worked on together, written in order, taken up again where a run ended."""
