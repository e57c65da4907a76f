"""The tagger's recipe, its data and its weak labels."""
