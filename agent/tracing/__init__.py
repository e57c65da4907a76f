"""Traces of runs: to LangSmith, to OpenTelemetry, and as a page of their own."""
