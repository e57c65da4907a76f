"""The sandbox world: made-up posts with drawn pictures and exact truth, in the layouts of the published data sets.

`names` invents names, `kinds` lists the things and the sentences about them, `drawing` draws the things. `posts`
composes a post with its picture, knowledge and captions. `described` describes a picture's things, and `write` writes a
world to disk. `baselines` measures baselines that understand nothing. `nets` initialises tiny nets, `train` trains
them, `pack` packs them, and `tracing` measures where a trained BLIP looks.
"""

VERSION = 3
"""Version of the generator; results name it. Within a version, a seed always gives the same world."""
