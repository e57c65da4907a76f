"""Traces of runs: to LangSmith, to OpenTelemetry, and as an HTML page."""
