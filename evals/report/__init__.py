"""Reports of a scored run: text, Markdown, HTML and plots."""
