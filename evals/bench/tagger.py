"""Speed of the tagger, against its bare encoder at equal batch size and against one post per call."""

import random
from collections.abc import Callable, Sequence

import torch

from namepin.evals.bench.harness import time_interleaved
from namepin.tools.interfaces import TagRequest
from namepin.tools.media import Media
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger

_WORDS = (
    "RT @ # : the of in at with today Great night when Eileen Collins Rotterdam NASA won Harbour Jazz Festival 2016 "
    "ready Paris so proud ! ? . , ' s new photo from Chicago Bulls game tickets on sale now Taylor Swift live"
).split()


def made_posts(count: int = 256) -> list[TagRequest]:
    """Tokenised posts of 6 to 30 words, 17 on average as in GMNER."""
    rng = random.Random(0)
    posts = []
    for _ in range(count):
        tokens = tuple(rng.choices(_WORDS, k=min(30, max(6, round(rng.gauss(17, 6))))))
        posts.append(TagRequest(text=" ".join(tokens), tokens=tokens))
    return posts


def bench(
    posts: Sequence[TagRequest] | None = None, config: TaggerConfig | None = None, rounds: int = 7
) -> dict[str, float]:
    """Posts per second of three methods on the same posts, and their ratios.

    The bare encoder gets the texts, its tokenizer and batches of the same size. The tagger adds features, both paths,
    CRF decoding, the lexicon and results. The three run in turn, and their medians are compared.

    Args:
        posts: the posts to tag; by default `made_posts`.
        config: the tagger to measure; by default the starter profile's.
        rounds: number of timed rounds after one without timing.

    Returns:
        `tagger`, `bare_encoder` and `single` in posts per second; `share_of_bare_encoder`, `speedup_over_single`.
    """
    posts = made_posts() if posts is None else posts
    tagger = DualTagger(config or TaggerConfig(lexicon=0.8))
    ways: dict[str, Callable[[], object]] = {
        "tagger": lambda: tagger.run(posts, Media()),
        "bare_encoder": lambda: _encode(tagger, posts),
        "single": lambda: [tagger.run([post], Media()) for post in posts],
    }
    for way in ways.values():
        way()
    speed = {name: len(posts) / seconds for name, seconds in time_interleaved(ways, rounds).items()}
    return {
        **speed,
        "share_of_bare_encoder": speed["tagger"] / speed["bare_encoder"],
        "speedup_over_single": speed["tagger"] / speed["single"],
        "batch_size": tagger.config.batch_size,
        "threads": torch.get_num_threads(),
    }


@torch.inference_mode()
def _encode(tagger: DualTagger, posts: Sequence[TagRequest]) -> None:
    """The encoder alone: tokenizer, batches of similar length, forward pass."""
    tokenizer, encoder = tagger.builder.tokenizer, tagger.net.encoder
    limit = tagger.spec.input.max_pieces
    ids = tokenizer([post.text for post in posts], truncation=True, max_length=limit).input_ids
    ids.sort(key=len, reverse=True)
    for i in range(0, len(ids), tagger.config.batch_size):
        batch = tokenizer.pad({"input_ids": ids[i : i + tagger.config.batch_size]}, return_tensors="pt")
        encoder(**batch)
