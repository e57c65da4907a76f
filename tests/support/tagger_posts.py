"""Posts from which a tiny tagger can learn."""

import json
import random
from pathlib import Path

NAMES = {"LOC": ["Rome", "Paris", "Lima", "Oslo"], "PER": ["Ada Bell", "Bo Carr", "Cy Dunn", "Di Eves"]}


HINTS = {"LOC": "city", "PER": "actor"}


FRAMES = ["{PER} is in {LOC} now", "see {LOC} with me", "RT @ x : {PER} sings # wow", "nothing of note here"]


def write_posts(folder: Path, split: str, count: int) -> None:
    """GMNER's files: text, and knowledge in the recorded style."""
    rng = random.Random(split)
    blocks, rows = [], []
    for i in range(count):
        lines, listed = [f"IMGID:{split}{i}"], []
        for word in rng.choice(FRAMES).split():
            kind = word.strip("{}")
            if kind == word:
                lines.append(f"{word}\tO")
                continue
            name = rng.choice(NAMES[kind])
            listed.append(f"{len(listed) + 1}. {name} ({HINTS[kind]})")
            lines += [f"{part}\t{'I' if j else 'B'}-{kind}" for j, part in enumerate(name.split())]
        blocks.append("\n".join(lines))
        rows.append({"id": f"{split}{i}", "knowledge": f"Named entities: {' '.join(listed)} Reasoning: none."})
    (folder / "txt").mkdir(parents=True, exist_ok=True)
    (folder / "knowledge").mkdir(exist_ok=True)
    (folder / "txt" / f"{split}.txt").write_text("\n\n".join(blocks) + "\n")
    (folder / "knowledge" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
