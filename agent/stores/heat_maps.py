"""The heat maps of conversations' posts, for the pages that draw them; an `Extraction` does not hold them."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from namepin.agent.stores.files import FileStore
from namepin.tools.types import Entity, Extraction


class HeatMaps:
    """Maps by their key: the run's fingerprint, the post's text and picture, the name and its type.

    So a result finds its maps in any process, and a result of other tools never finds them.

    Args:
        folder: created with the first map.
        max_bytes: largest total size of the maps.
    """

    def __init__(self, folder: Path, max_bytes: int = 2**24) -> None:
        self._kept = FileStore(folder, max_bytes)

    def keep(self, extraction: Extraction, heat: Mapping[int, bytes]) -> None:
        """Store a run's maps, as filled by `Namepin.astream`.

        Raises:
            NamepinError: E500 when they cannot be written.
        """
        for index, blob in heat.items():
            self._kept.put(_name(extraction, extraction.entities[index]), blob)

    def of(self, extraction: Extraction) -> dict[int, bytes]:
        """The stored maps of a result by the index of their entity."""
        if extraction.image is None:
            return {}
        looked = [i for i, entity in enumerate(extraction.entities) if entity.peak is not None]
        found = {i: self._kept.get(_name(extraction, extraction.entities[i])) for i in looked}
        return {i: blob for i, blob in found.items() if blob is not None}


def _name(extraction: Extraction, entity: Entity) -> str:
    picture = extraction.image.sha256 if extraction.image else ""
    typed = entity.fine_label or entity.label
    decides = [extraction.fingerprint, extraction.text, picture, entity.start, entity.end, typed]
    return sha256(json.dumps(decides).encode()).hexdigest()
