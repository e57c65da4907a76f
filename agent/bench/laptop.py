"""The profile laptop at its published sizes with random weights: its speed does not depend on what they know."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from namepin.agent.bench.registry import a_picture
from namepin.evals.bench.harness import peak_memory_gib, time_interleaved
from namepin.tools.loading.quiet import quiet_transformers

TEXT = "So proud of Eileen Collins, the first woman to command a Space Shuttle for NASA"
_LETTERS = [chr(code) for code in range(33, 127)]
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def bench_laptop(rounds: int = 3) -> dict[str, float]:
    """Seconds and memory of a post with three names and a 1-megapixel picture, in which every thing is found.

    The picture differs in each round, so that no cache answers. `peak_memory_gib` is the memory of the whole process,
    so run this bench alone: `namepin bench laptop`. CPU seconds hardly depend on what else runs on the machine.
    """
    from namepin.agent.api import Namepin
    from namepin.agent.config.settings import load_settings

    with tempfile.TemporaryDirectory() as folder:
        with quiet_transformers():
            _save_detector(Path(folder, "owlv2"))
            _save_segmenter(Path(folder, "sam2"))
        settings = load_settings(
            "laptop",
            overrides={
                "matcher.owlv2.weights": str(Path(folder, "owlv2")),
                "segmenter.sam.weights": str(Path(folder, "sam2")),
                "matcher.threshold": 1e-6,
            },
            environment={},
        )
        pin = Namepin(settings)
        pictures = iter([a_picture(shade) for shade in range(2 * rounds + 1)])

        def extract() -> Any:
            return pin.extract(TEXT, image=next(pictures))

        began = time.perf_counter()
        found = extract()
        first = time.perf_counter() - began
        warm = time_interleaved({"warm_s": extract}, rounds)
        cpu = time_interleaved({"warm_cpu_s": extract}, rounds, time.process_time)
    return {
        "names": float(len(found.entities)),
        "masks": float(sum(entity.mask is not None for entity in found.entities)),
        "first_s": first,
        **warm,
        **cpu,
        **{f"first_{role}_s": found.timings_ms[role] / 1000 for role in ("tagger", "matcher", "segmenter")},
        "peak_memory_gib": peak_memory_gib(),
    }


def _save_detector(folder: Path) -> None:
    """OWLv2-base with the published sizes, and a vocabulary of letters."""
    import torch
    from transformers import Owlv2Config, Owlv2ForObjectDetection

    torch.manual_seed(0)
    config = Owlv2Config(vision_config={"image_size": 960, "patch_size": 16})
    net = Owlv2ForObjectDetection(config)
    for parameter in net.box_head.dense2.parameters():
        torch.nn.init.zeros_(parameter)  # each place gives its own patch, so that boxes are sound
    net.save_pretrained(folder)
    vocabulary = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), *_SPECIAL]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(vocabulary)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    special = {"bos_token": _SPECIAL[0], "eos_token": _SPECIAL[1], "unk_token": _SPECIAL[1], "pad_token": "!"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", **special}), "utf-8")


def _save_segmenter(folder: Path) -> None:
    """SAM 2.1 tiny, whose sizes are the library's defaults."""
    import torch
    from transformers import Sam2Config, Sam2Model

    torch.manual_seed(0)
    Sam2Model(Sam2Config()).save_pretrained(folder)
