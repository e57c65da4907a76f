"""Mentions of a post with their types: the dual-granularity tagger."""
