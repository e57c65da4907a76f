"""The tools of a conversation for other agents, by the Model Context Protocol on stdio and over HTTP."""
