"""Speed of the tagger: against its bare encoder at equal batch, and against one post a call."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from evals.bench import interleaved
from tools.interfaces import TagRequest
from tools.media import Media
from tools.tagger import DualTagger, TaggerConfig


def bench(posts: Sequence[TagRequest], config: TaggerConfig | None = None, repeats: int = 5) -> dict[str, Any]:
    """Posts a second of three ways through the same posts, and their ratios.

    The bare encoder gets the texts, its tokenizer and batches of the same size; what the tagger adds is tweet tokens,
    features, both paths, CRF decoding and results. The three are timed in turn, `repeats` times after one untimed turn,
    and the medians are compared, so that a machine that slows down or speeds up moves all of them.

    Args:
        posts: what to tag; a few hundred real ones, say.
        config: the tagger to measure, by default the one that ships.
        repeats: timed turns.
    """
    tagger = DualTagger(config or TaggerConfig())
    one = DualTagger.of(tagger.net, tagger.builder, tagger.manifest, tagger.config.model_copy(update={"batch_size": 1}))
    ways: dict[str, Callable[[], object]] = {
        "tagger": lambda: tagger.run(posts, Media()),
        "encoder": lambda: _encode(tagger, posts),
        "one_a_call": lambda: [one.run([post], Media()) for post in posts],
    }
    for way in ways.values():
        way()
    speed = {name: len(posts) / seconds for name, seconds in interleaved(ways, repeats).items()}
    return {
        "posts": len(posts),
        "batch_size": tagger.config.batch_size,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "posts_per_second": {name: round(value, 1) for name, value in speed.items()},
        "of_encoder": round(speed["tagger"] / speed["encoder"], 3),
        "of_one_a_call": round(speed["tagger"] / speed["one_a_call"], 3),
    }


@torch.inference_mode()
def _encode(tagger: DualTagger, posts: Sequence[TagRequest]) -> None:
    """The encoder alone, as one would run it: tokenizer, batches of like length, forward."""
    tokenizer, encoder = tagger.builder.tokenizer, tagger.net.encoder
    limit = tagger.spec.input.max_pieces
    ids = tokenizer([post.text for post in posts], truncation=True, max_length=limit).input_ids
    ids.sort(key=len, reverse=True)
    for i in range(0, len(ids), tagger.config.batch_size):
        batch = tokenizer.pad({"input_ids": ids[i : i + tagger.config.batch_size]}, return_tensors="pt")
        encoder(**batch)
