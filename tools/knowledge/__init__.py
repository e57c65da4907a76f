"""Background knowledge about a post, from a language model."""
