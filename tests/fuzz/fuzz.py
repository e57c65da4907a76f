"""Coverage-guided fuzzing with atheris: `python tests/fuzz/fuzz.py TARGET --seconds N [--corpus FOLDER]`.

Exits 0 when nothing was found; otherwise libFuzzer prints the exception and writes the input beside the corpus.
"""

import argparse
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
    """Fuzz one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--corpus", type=Path, help="kept between runs; a temporary folder without it")
    asked = parser.parse_args()
    with atheris.instrument_imports(include=PARSERS):
        from support.fuzz_targets import TARGETS
    target = TARGETS[asked.target]
    corpus = asked.corpus or Path(tempfile.mkdtemp(prefix=f"fuzz-{asked.target}-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
        target.run(seed)  # what is imported when it is first needed, such as PyTorch, takes no input's time
    # libFuzzer judges by the peak of this process, and Linux lets a child begin with the peak of who started it.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    limits = [f"-max_total_time={asked.seconds}", f"-max_len={LONGEST}", "-timeout=20"]
    limits.append(f"-rss_limit_mb={peak_mb + GROWTH_MB}")
    found = f"-artifact_prefix={corpus.parent}/{asked.target}-"
    atheris.Setup([sys.argv[0], *limits, found, "-print_final_stats=1", str(corpus)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
