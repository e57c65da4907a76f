"""Whether the picture entails a referring expression."""
