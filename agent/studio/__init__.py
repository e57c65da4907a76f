"""Namepin's graphs for LangGraph's server, named in `langgraph.json`, with posts and settings as JSON."""
