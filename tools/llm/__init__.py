"""Chat models: client, servers, constrained answers and usage."""
