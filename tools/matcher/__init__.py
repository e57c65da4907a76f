"""Is a mention in the picture?"""
