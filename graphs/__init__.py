"""LangGraph state machines, and their record and replay."""
