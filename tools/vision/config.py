"""Settings of the starter profile's vision."""

from namepin.tools.types import Frozen


class OcrConfig(Frozen):
    """How to read.

    Attributes:
        side: the long side, in pixels, at which text is sought; time and memory grow with its square.
        confidence: a line read with less is left out.
        threads: cores that one picture may use.
    """

    side: int = 1024
    confidence: float = 0.6
    threads: int = 2


class PeopleConfig(Frozen):
    """How hard to look.

    Attributes:
        side: the long side, in pixels, at which faces are sought; larger finds smaller faces and takes longer.
        smallest: the smallest face sought, as a fraction of the long side.
        tilts: degrees by which the picture is turned for another look while no face was found.
        most: at most so many people are reported, the most prominent first.
    """

    side: int = 800
    smallest: float = 0.03
    tilts: tuple[float, ...] = (-25.0, 25.0)
    most: int = 20


class SceneConfig(Frozen):
    """Settings of the scene; `keep` is the number of pictures whose scenes are cached."""

    ocr: OcrConfig = OcrConfig()
    people: PeopleConfig = PeopleConfig()
    keep: int = 64
