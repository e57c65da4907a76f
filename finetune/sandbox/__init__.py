"""The sandbox world: made-up posts with drawn pictures and exact truth, in the layouts of the published data sets.

`names` invents names, `kinds` says what there is and how it is talked about, `drawing` draws it, `posts` composes a
post with its picture, knowledge and captions, `described` says what a picture shows, `write` puts a whole world on
disk, `baselines` says how far one comes without understanding it. `nets` draws tiny nets, `train` trains them all,
`pack` makes them small, `tracing` says where a trained BLIP looks.
"""

VERSION = 3
"""Of the generator; results name it. What it makes of a seed does not change within a version."""
