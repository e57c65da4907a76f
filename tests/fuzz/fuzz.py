"""Coverage-guided fuzzing with atheris: `python tests/fuzz/fuzz.py TARGET... --seconds N [--corpus FOLDER]`.

Several targets come one after the other, each in a process forked from the one that imported all.

Exits 0 when nothing was found; otherwise libFuzzer prints the exception and writes the input beside the corpus.
"""

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

LONGEST = 4096
GROWTH_MB = 2048
PARSERS = [
    "namepin.agent.posts",
    "namepin.agent.config.settings",
    "namepin.agent.config.layers",
    "namepin.evals",
    "namepin.tools",
    "json",
    "tomllib",
    "defusedxml",
    "xml",
]


def main() -> None:
    """Fuzz the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--seconds", type=int, default=10, help="of each target; 0: until --inputs")
    parser.add_argument("--inputs", type=int, default=-1, help="most inputs of each target; -1: any number")
    parser.add_argument("--corpus", type=Path, help="kept between runs; a temporary folder without it")
    asked = parser.parse_args()
    with atheris.instrument_imports(include=PARSERS):
        import support.fuzz_targets  # noqa: F401  # in every fork, then
    for name in asked.targets[1:]:
        if child := os.fork():
            if os.waitpid(child, 0)[1]:
                sys.exit(f"{name} fails")
        else:
            fuzz(name, asked)
            os._exit(0)
    fuzz(asked.targets[0], asked)


def fuzz(name: str, asked: argparse.Namespace) -> None:
    """Fuzz one target, and end this process."""
    from support.fuzz_targets import TARGETS

    target = TARGETS[name]
    corpus = (asked.corpus or Path(tempfile.mkdtemp(prefix="fuzz-"))) / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
        target.run(seed)  # what is imported when it is first needed, such as PyTorch, takes no input's time
    # libFuzzer judges by the peak of this process, and Linux lets a child begin with the peak of who started it.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    limits = [f"-max_total_time={asked.seconds}", f"-runs={asked.inputs}", f"-max_len={LONGEST}", "-timeout=20"]
    limits.append(f"-rss_limit_mb={peak_mb + GROWTH_MB}")
    found = f"-artifact_prefix={corpus.parent}/{name}-"
    atheris.Setup([sys.argv[0], *limits, found, "-print_final_stats=1", str(corpus)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
