"""The role `extractor`: one vision-language model answers names, types and boxes of a post at once."""
