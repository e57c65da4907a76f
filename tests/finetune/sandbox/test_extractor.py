"""The sandbox's extractor: names have one spelling in tokens, and the net to begin with can repeat what it read."""

import math
from pathlib import Path

import pytest

from namepin.finetune.sandbox.extractor import SMALL_EYE, tables
from namepin.finetune.sandbox.names import words_of
from namepin.finetune.sandbox.qwen_vl import byte_tokenizer, save_qwen_vl
from namepin.finetune.sandbox.repeating import teach_to_repeat

WORDS = words_of(1, 600)


def posts(split: str) -> list[str]:
    return [
        f"so much love for {one} , thinking about {two} again"
        for one, two in zip(WORDS[split], WORDS[split][1:], strict=False)
    ]


@pytest.mark.parametrize(("apart", "least", "most"), [(True, 1.0, 1.0), (False, 0.0, 0.6)])
def test_tokenizer_with_names_apart_spells_unseen_names_alike_in_post_and_answer(
    apart: bool, least: float, most: float
) -> None:
    answer = '[{"text": "'
    tokenizer = byte_tokenizer(posts("train"), size=500, whole=[answer], names_apart=apart)
    same = 0
    for post, name in zip(posts("test"), WORDS["test"], strict=False):
        read, written = (tokenizer(text)["input_ids"] for text in (f'"{post}"', f'{answer}{name}"'))
        name_ids = written[1:-1]
        same += any(read[at : at + len(name_ids)] == name_ids for at in range(len(read)))
        assert tokenizer.decode(read) == f'"{post}"', "any text comes out unchanged"
    assert least <= same / len(posts("test")) <= most


@pytest.mark.slow
def test_teach_to_repeat_gives_a_net_that_repeats_random_tokens(tmp_path: Path) -> None:
    sizes = {"width": 64, "layers": 2, "tokens": 300, "names_apart": True}
    folder = save_qwen_vl(tmp_path / "net", posts("train"), vision=SMALL_EYE, **sizes)  # type: ignore[arg-type]
    assert teach_to_repeat(folder, 1, 1) > 0.9 * math.log(300)
    assert teach_to_repeat(folder, 1, 400) < 1.0


def test_tables_list_every_seed_by_epoch_and_on_the_test_posts() -> None:
    rows = [{"loss": 2.0, "valid": 0.5}, {"loss": 1.0, "valid": 1.0}]
    scores = {"valid": 0.98, "span_f1": 0.8, "mner_f1": 0.4, "gmner_f1": 0.2, "dev_reward": 2.0}
    said = tables({"sft-1": rows, "grpo-1": [{"reward": 1.5}]}, {"sft-1": scores})
    assert "| sft-1 | 2.000 | 1.000 |" in said and "| grpo-1 | 1.500 |" in said
    assert "| sft-1 | 0.980 | 0.800 | 0.400 | 0.200 | 2.000 |" in said
