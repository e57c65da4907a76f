"""Dev scores: greedy answers, counted by the evaluator."""

from collections.abc import Mapping, Sequence
from typing import Any

from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.evals.scoring.evaluate import count_posts, total
from namepin.evals.scoring.predictions import Predictions
from namepin.finetune.extractor.model import ExtractorModel
from namepin.finetune.extractor.rewards import REWARDS, Judge, is_exact, predicted_of, tasks_of
from namepin.finetune.extractor.rows import Questioner
from namepin.tools.extractor.answer import Scheme
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.prompt import types_of

GivenAnswer = tuple[str, BoxFrame | None]
"""What the model wrote about a post, and how it counts in the post's picture."""


def write_answers(
    model: ExtractorModel, ask: Questioner, posts: Sequence[GoldPost], longest: int, batch: int
) -> list[GivenAnswer]:
    """The greedy answers of the net as it is."""
    processor: Any = model.processor
    answers: list[GivenAnswer] = []
    for at in range(0, len(posts), batch):
        rows = [ask.ask(gold) for gold in posts[at : at + batch]]
        inputs = processor.apply_chat_template(
            [_with_images(row) for row in rows],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        ).to(model.net.device)
        ids = model.net.generate(**inputs, max_new_tokens=longest, do_sample=False)
        written = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        answers += [(text, row["frame"]) for text, row in zip(written, rows, strict=True)]
    return answers


def _with_images(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages with the picture in its place."""
    images = iter(row["images"])
    return [
        {
            **message,
            "content": [
                {**part, "image": next(images)} if part["type"] == "image" else part for part in message["content"]
            ],
        }
        for message in row["prompt"]
    ]


def score_answers(
    dataset: Dataset, scheme: Scheme, answers: Mapping[str, GivenAnswer], weights: Sequence[float]
) -> dict[str, float]:
    """The evaluator's F1 of names, of names with types, and of names with types and boxes; the first is their mean.

    `valid` is the share of answers in exactly the asked form, `dev_reward` the mean of the weighted rewards' sum.
    """
    entities = {}
    for gold in dataset.posts:
        answer, frame = answers[gold.post.id]
        found = predicted_of(answer, scheme, gold.post.text, gold.post.tokens or (), frame) or ()
        entities[gold.post.id] = tuple(one for one in found if one.span[0] >= 0)  # the tool leaves out the others
    predictions = Predictions(entities, {})
    typed, boxed = tasks_of(dataset, scheme)
    span, named, whole = (total(count_posts(dataset, predictions, task)).f1 for task in ("span", typed, boxed))
    exact = sum(is_exact(answer, types_of(scheme)) for answer, _ in answers.values())
    scores = {"gmner_f1": whole, "mner_f1": named, "span_f1": span, "valid": exact / max(len(answers), 1)}
    judge = Judge(dataset, scheme)
    verdicts = [judge.verdict(post, *answer) for post, answer in answers.items()]
    sums = [sum(w * (reward(v) or 0.0) for w, reward in zip(weights, REWARDS, strict=True)) for v in verdicts]
    scores["dev_reward"] = sum(sums) / max(len(sums), 1)
    return {"mean_f1": (whole + named + span) / 3, **scores}
