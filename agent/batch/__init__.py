"""Many posts: read as a stream, processed together, written in order, resumed where a run ended."""
