"""The agent people talk to: one conversation over the graph and its single tools."""
