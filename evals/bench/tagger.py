"""Speed of the tagger, against its bare encoder at equal batch size and against one post per call."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

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


class InTurn(DualTagger):
    """The tagger as it was before: its passes one after the other, with all threads in each."""

    _map = staticmethod(lambda work, batches: list(map(work, batches)))


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


_COMPARED: Final = ("float32", "auto")


def bench_precision(rounds: int = 5) -> dict[str, float]:
    """The tagger in this processor's fastest number format, against float32, each at the better of two batch sizes."""
    posts = made_posts()
    taggers = {
        f"{precision} {size}": DualTagger(
            TaggerConfig(lexicon=0.2, spans="joint", precision=precision, batch_size=size)
        )
        for precision in _COMPARED
        for size in (16, 64)
    }
    ways = {name: partial(tagger.run, posts, Media()) for name, tagger in taggers.items()}
    for way in ways.values():
        way()
    seconds = time_interleaved(ways, rounds)
    float32, auto = (min(seconds[f"{precision} {size}"] for size in (16, 64)) for precision in _COMPARED)
    return {
        "float32_posts_per_s": len(posts) / float32,
        "auto_posts_per_s": len(posts) / auto,
        "speedup": float32 / auto,
        "bits": {"float32": 32.0, "bfloat16": 16.0, "int8": 8.0}[taggers["auto 16"].precision],
    }


_PER_SIZE = 16
"""Number of posts of each length, batch and number of mentions in `bench_roofline`."""


def bench_roofline(rounds: int = 3) -> dict[str, float]:
    """What part of this machine's float32 product speed the tagger reaches, and how its time grows.

    `peak_gflops` is the speed of a large matrix product with the same threads. `length_*` are milliseconds per post of
    so many words, `batch_*` of so many posts at once, `mentions_*` of so many names among 32 words.
    """
    tagger = DualTagger(TaggerConfig(lexicon=0.2, spans="joint"))
    posts = made_posts(96)
    rows = [tagger.builder.rows(post.tokens or ()) for post in posts]
    tokens = sum(len(row.piece_ids) for parts in rows for row in parts)
    sizes: Any = tagger.net.encoder.config
    per_layer = 4 * sizes.hidden_size**2 + 2 * sizes.hidden_size * sizes.intermediate_size
    flop = 2.0 * sizes.num_hidden_layers * per_layer

    def run(requests: Sequence[TagRequest], size: int) -> Callable[[], object]:
        return lambda: [tagger.run(requests[i : i + size], Media()) for i in range(0, len(requests), size)]

    def of(words: Sequence[str]) -> list[TagRequest]:
        return [TagRequest(text=" ".join(words), tokens=tuple(words))] * _PER_SIZE

    filler = "so proud of this great night when we are ready for a new game on sale now".split()
    names = ["Rotterdam", "NASA", "Chicago", "Paris", "Oslo", "Apple", "London", "Google"]
    ways = {"all": run(posts, len(posts))}
    ways |= {f"length_{n}": run(of([filler[i % len(filler)] for i in range(n)]), _PER_SIZE) for n in (8, 32, 128)}
    ways |= {f"batch_{n}": run(of(filler), n) for n in (1, 4, 16)}
    for n in (0, 4, 8):
        spread = [names[i // 4] if i % 4 == 0 and i // 4 < n else filler[i % len(filler)] for i in range(32)]
        ways[f"mentions_{n}"] = run(of(spread), _PER_SIZE)
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    ways["product"] = lambda: left @ right
    for way in ways.values():
        way()
    seconds = time_interleaved(ways, rounds)
    reached, peak = flop * tokens / seconds["all"] / 1e9, 2 * 1024**3 / seconds["product"] / 1e9
    growth = {name: 1000 * taken / _PER_SIZE for name, taken in seconds.items() if name not in ("all", "product")}
    return {
        "mflop_per_token": flop / 1e6,
        "tokens_per_post": tokens / len(posts),
        "reached_gflops": reached,
        "peak_gflops": peak,
        "part_of_peak": reached / peak,
        **{f"{name}_ms": value for name, value in growth.items()},
    }
