"""Annotated examples that resemble a post."""
