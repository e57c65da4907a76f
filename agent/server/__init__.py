"""The server: the REST API for applications, with its access checks and bounds."""
