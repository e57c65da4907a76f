"""Namepin's graphs for LangGraph's own server: what `langgraph.json` names, with posts and settings as JSON."""
