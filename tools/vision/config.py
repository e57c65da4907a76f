"""Settings of the starter profile's vision."""

from namepin.tools.types import Frozen


class OcrConfig(Frozen):
    """Settings of the OCR.

    Attributes:
        side: the largest long side, in pixels, at which words are read.
        sought: the largest long side at which lines of text are sought; time and memory grow with its square.
        enlarged: pictures with a shorter long side are enlarged to it, at most twice.
        confidence: a line read with less is left out.
        threads: cores that one picture may use.
    """

    side: int = 1024
    sought: int = 640
    enlarged: int = 640
    confidence: float = 0.6
    threads: int = 2


class PeopleConfig(Frozen):
    """Settings of the search for faces.

    Attributes:
        side: the long side, in pixels, at which faces are sought; larger finds smaller faces, and more false ones.
        smallest: the smallest face reported, as a fraction of the long side.
        score: the detector's lowest score, 0 to 1, of a face that is reported.
        most: at most so many people are reported, the most prominent first.
    """

    side: int = 640
    smallest: float = 0.03
    score: float = 0.6
    most: int = 20


class SceneConfig(Frozen):
    """Settings of the scene; `keep` is the number of pictures whose scenes are cached."""

    ocr: OcrConfig = OcrConfig()
    people: PeopleConfig = PeopleConfig()
    keep: int = 64
