import json
from pathlib import Path

import pytest

from namepin.evals import photographs, vision_check
from namepin.tools.images.load import load_image
from support.paths import EXAMPLES

FACE = [182.0, 54.0, 274.0, 178.0]
OUTLINE = [[30, 511], [60, 250], [150, 170], [155, 30], [300, 30], [300, 170], [370, 300], [370, 511]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("astronaut", "rocket"):
        load_image(EXAMPLES / f"{name}.jpg").image.save(tmp_path / f"{name}.png")
    person = {"class": 0, "box": [30, 30, 370, 511], "polygon": OUTLINE}
    rows = [
        {"image": "astronaut.png", "width": 512, "height": 512, "things": [person], "faces": [FACE, [0, 400, 60, 470]]},
        {
            "image": "rocket.png",
            "width": 640,
            "height": 427,
            "things": [{"class": 4, "box": [], "polygon": []}],
            "faces": [],
        },
    ]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tmp_path


def test_report_counts_faces_people_and_clean_photographs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "figures.json"
    monkeypatch.setattr("sys.argv", ["vision_check", "--photos", str(folder), "--json", str(out)])
    vision_check.main()
    figures = json.loads(out.read_text("utf-8"))
    assert json.loads(capsys.readouterr().out) == figures
    assert figures["faces"] == {"recall": 0.5, "precision": 1.0, "found": 1, "wrong": 0, "truth": 2}
    assert figures["people"]["n"] == 1 and figures["people"]["box_at_50"] == 1.0
    assert figures["people"]["mean_mask_iou"] > 0.7
    assert figures["clean"] == {"share": 1.0, "n": 1}
    assert figures["cpu_seconds"]["n"] == 2 and figures["cpu_seconds"]["together"] > 0


def test_match_pairs_each_detection_once() -> None:
    face, beside = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0)
    assert photographs.match([beside, face], [face]) == {0: 1}
    assert photographs.match([face], [face, beside]) == {0: 0}
    assert photographs.match([(20.0, 0.0, 30.0, 10.0)], [face]) == {}
