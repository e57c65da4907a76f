"""Does the picture entail a referring expression?"""
