"""Where in the picture the matcher saw a mention: one point."""
