"""Answers of a review as training rows: FMNERG's layout, which `namepin finetune` reads.

ROOT/tagger/txt_fine/train.txt                 every reviewed post; `--set dataset=sandbox --set data=ROOT/tagger`
ROOT/matcher/{txt_fine/train.txt,xml,images}   those with a picture; `--set dataset=fmnerg --set root=ROOT/matcher`
"""

import hashlib
import io
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write
from namepin.tools.labels import FINE_TO_COARSE8
from namepin.tools.types import Entity, Extraction


def save_rows(root: Path, extraction: Extraction, picture: Image.Image | None = None) -> list[Path]:
    """Add a reviewed post to the rows; an existing row stays unchanged.

    Args:
        root: the folder; created if missing.
        extraction: the review's result.
        picture: the post's pixels. The matcher's row is written if there is a picture, every name was looked for, and
            every name in the picture has a box.

    Returns:
        The text files that now have the post.

    Raises:
        NamepinError: E335 without a person's answer, or for a name without a fine type; E500 when the folder cannot be
            written.
    """
    entities = extraction.entities
    if not any("review" in entity.provenance for entity in entities):
        raise NamepinError("E335", "this post has no decision of a person", where=extraction.id)
    if coarse := [entity.text for entity in entities if entity.fine_label is None]:
        what = f"{coarse[0]!r} has no fine type, which the rows need"
        raise NamepinError("E335", what, where=extraction.id, mend="use a profile with a fine-grained tagger")
    name = "review-" + hashlib.sha256(f"{extraction.id}\x00{extraction.text}".encode()).hexdigest()[:16]
    files = [root / "tagger" / "txt_fine" / "train.txt"]
    visual = picture is not None and all(e.groundable is not None and (e.box or not e.groundable) for e in entities)
    try:
        if visual and picture is not None:
            files.append(root / "matcher" / "txt_fine" / "train.txt")
            for folder in ("images", "xml"):
                (root / "matcher" / folder).mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, "JPEG", quality=95)
            atomic_write(root / "matcher" / "images" / f"{name}.jpg", buffer.getvalue())
            atomic_write(root / "matcher" / "xml" / f"{name}.xml", _boxes(name, extraction, picture))
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            known = file.read_text("utf-8") if file.is_file() else ""
            if f"IMGID:{name}\n" not in known:
                with file.open("a", encoding="utf-8") as rows:
                    rows.write(_conll(name, extraction))
    except OSError as error:
        raise NamepinError("E500", f"cannot write the rows: {error.strerror}", where=str(root)) from error
    return files


def _conll(name: str, extraction: Extraction) -> str:
    tags = [("O", "O")] * len(extraction.tokens)
    for entity in extraction.entities:
        first, last = entity.token_span
        for at in range(first, last):
            fine = str(entity.fine_label)
            place = "B" if at == first else "I"
            tags[at] = f"{place}-{FINE_TO_COARSE8[fine]}", f"{place}-{fine}"
    lines = ["\t".join((token, *tag)) for token, tag in zip(extraction.tokens, tags, strict=True)]
    return "\n".join([f"IMGID:{name}", *lines]) + "\n\n"


def _boxes(name: str, extraction: Extraction, picture: Image.Image) -> str:
    found = "".join(map(_object, extraction.entities))
    size = f"<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}.jpg</filename>{size}{found}</annotation>\n"


def _object(entity: Entity) -> str:
    box = ""
    if entity.box is not None:
        edges = zip(("xmin", "ymin", "xmax", "ymax"), entity.box, strict=True)
        box = f"<bndbox>{''.join(f'<{edge}>{round(value)}</{edge}>' for edge, value in edges)}</bndbox>"
    return f"<object><name>{escape(entity.text)}</name>{box}</object>"
