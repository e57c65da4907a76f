"""`python .ci/readme_picture.py out/demo`: the README's picture from what `make demo` drew, two posts side by side."""

import sys
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).resolve().parents[1] / "docs" / "demo.jpg"
POSTS, HEIGHT, GAP = ("astronaut", "flyer"), 640, 16


def main() -> None:
    """Write the picture."""
    drawn = [Image.open(Path(sys.argv[1]) / f"{post}.png").convert("RGB") for post in POSTS]
    parts = [
        part.resize((round(part.width * HEIGHT / part.height), HEIGHT), Image.Resampling.LANCZOS) for part in drawn
    ]
    sheet = Image.new("RGB", (sum(part.width for part in parts) + GAP * (len(parts) - 1), HEIGHT), "white")
    at = 0
    for part in parts:
        sheet.paste(part, (at, 0))
        at += part.width + GAP
    sheet.save(TARGET, quality=88, optimize=True)


if __name__ == "__main__":
    main()
