"""The web page of `namepin serve`: a conversation and batch jobs in the browser, behind the access checks."""
