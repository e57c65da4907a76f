"""Settings of a profile, their layers, and the tools built from them."""
