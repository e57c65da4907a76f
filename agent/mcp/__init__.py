"""The tools of a conversation for other people's agents, by the Model Context Protocol: on stdio, and over HTTP."""
