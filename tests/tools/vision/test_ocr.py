import socket
from pathlib import Path

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from namepin.tools.geometry import box_iou
from namepin.tools.vision.config import OcrConfig
from namepin.tools.vision.name_search import find_name, pieces
from namepin.tools.vision.ocr import Line, Quad, TextReader, Word, bounds, part_of

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def quad(x1: float, y1: float, x2: float, y2: float) -> Quad:
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def line(text: str, x: float = 0.0, y: float = 0.0, height: float = 20.0) -> Line:
    """A line whose characters are 10 pixels wide."""
    words, at = [], x
    for word in text.split(" "):
        words.append(Word(word, quad(at, y, at + 10 * len(word), y + height)))
        at += 10 * (len(word) + 1)
    return Line(tuple(words), quad(x, y, at - 10, y + height), 0.99)


def written(*words: tuple[str, int, int], size: int = 40, canvas: tuple[int, int] = (640, 320)) -> Image.Image:
    picture = Image.new("RGB", canvas, "white")
    for text, x, y in words:
        ImageDraw.Draw(picture).text((x, y), text, fill="black", font=ImageFont.load_default(size))
    return picture


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader(OcrConfig())


def test_text_reader_returns_words_with_boxes(reader: TextReader) -> None:
    lines = reader.read(written(("Harbour Lights", 60, 40), ("Festival", 300, 200)))
    assert [entry.text for entry in lines] == ["Harbour Lights", "Festival"]
    font = ImageFont.load_default(40)
    for found, (text, x, y) in zip(
        [lines[0].words[0], lines[1].words[0]], [("Harbour", 60, 40), ("Festival", 300, 200)], strict=True
    ):
        left, top, right, bottom = font.getbbox(text)
        assert box_iou(bounds([found.quad]), (x + left, y + top, x + right, y + bottom)) > 0.5, found


def test_text_reader_boxes_use_pixels_of_given_picture(reader: TextReader) -> None:
    small = reader.read(written(("Festival", 100, 50), size=40, canvas=(500, 150)))
    large = reader.read(written(("Festival", 400, 200), size=160, canvas=(2000, 600)))
    assert small[0].text == large[0].text == "Festival"
    assert bounds([large[0].quad]) == pytest.approx([4 * v for v in bounds([small[0].quad])], abs=40)


@pytest.mark.parametrize("size", [(1, 1), (7, 400), (400, 7), (400, 300), (2400, 150)])
def test_text_reader_on_blank_picture_reads_nothing(reader: TextReader, size: tuple[int, int]) -> None:
    assert reader.read(Image.new("RGB", size, "black")) == ()


def test_text_reader_on_panorama_reads_text(reader: TextReader) -> None:
    lines = reader.read(written(("Panorama", 1000, 40), size=60, canvas=(2400, 150)))
    assert [entry.text for entry in lines] == ["Panorama"]


def test_text_reader_opens_no_connection_and_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert TextReader(OcrConfig()).read(written(("Offline", 40, 40), canvas=(240, 120)))[0].text == "Offline"
    assert capfd.readouterr() == ("", "")


FOUND = [
    ("Cruz Crew", "join the #CruzCrew today"),
    ("CruzCrew", "CRUZ CREW"),
    ("Federation Business Data Lake", "FEDERATION BUSINESS DATA LAKE 1.0"),
    ("VMware", "vm ware"),
    ("Beyoncé", "BEYONCE LIVE"),
    ("Angelina Jolie", "ANGELlNA JOLIE"),  # a wrong letter
    ("Wolverhampton", "Wolverhanpten"),  # two wrong letters
    ("US", "made in the US"),
    ("NBA", "2016 NBA finals"),
    ("PS4", "Sony PS4"),
    ("@acme_inc", "ACME INC"),
    ("New York's", "NEW YORK"),
    ("Pivotal Cloud Foundry Suite", "PIVOTAL CLOUD FOUNDRY"),
    ("Spider-Man", "SPIDERMAN"),
]


@pytest.mark.parametrize(("mention", "text"), FOUND)
def test_find_name_in_matching_line_returns_hit(mention: str, text: str) -> None:
    hit = find_name(mention, [line(text)])
    assert hit is not None and hit.quality > 0.55


NOT_FOUND = [
    ("US", "to USE it"),
    ("US", "tell us more"),
    ("Ohio", "Rohit"),
    ("Ohio", "Ohip"),  # four letters allow no wrong one
    ("Iran", "Irani people"),
    ("Paris", "comparison"),
    ("Angelina Jolie", "Jolie"),
    ("iPhone 6", "iPhone 7"),
    ("World Cup 2014", "World Cup 2018"),
    ("University of Michigan", "the University"),
    ("Who", "who is it"),
    ("🎉", "party 🎉"),
    ("Pivotal", ""),
]


@pytest.mark.parametrize(("mention", "text"), NOT_FOUND)
def test_find_name_in_other_line_returns_none(mention: str, text: str) -> None:
    assert find_name(mention, [line(text)]) is None


def test_find_name_box_covers_matched_words_only() -> None:
    hit = find_name("Data Lake", [line("THE DATA LAKE STORY", x=100, y=50)])
    assert hit is not None and hit.box == (140, 50, 230, 70)


def test_find_name_splits_hashtag_at_capitals() -> None:
    hit = find_name("Crew", [line("#CruzCrew")])
    assert hit is not None and hit.box == (50, 0, 90, 20)
    assert [piece.plain for piece in pieces(Word("#MH370Search", quad(0, 0, 120, 20)))] == ["mh", "370", "search"]


def test_find_name_joins_name_over_two_adjacent_lines() -> None:
    lines = [line("PIVOTAL", y=0), line("CLOUD FOUNDRY", y=22)]
    hit = find_name("Pivotal Cloud Foundry", lines)
    assert hit is not None and hit.quality == 1 and hit.box == (0, 0, 130, 42)
    apart = [line("PIVOTAL", y=0), line("CLOUD FOUNDRY", y=90)]
    assert find_name("Pivotal Cloud Foundry", apart) != hit


def test_find_name_of_several_places_returns_largest_and_count() -> None:
    hit = find_name("Acme", [line("ACME"), line("ACME", y=100, height=60), line("acme", y=300)])
    assert hit is not None and hit.box == (0, 100, 40, 160) and hit.places == 3


def test_find_name_of_partial_name_has_share_as_quality() -> None:
    hit = find_name("Manchester United", [line("MANCHESTER")])
    assert hit is not None and hit.quality == pytest.approx(10 / 16)


def test_part_of_slanted_quad_returns_its_half() -> None:
    slanted: Quad = ((0, 0), (100, 50), (90, 70), (-10, 20))
    assert part_of(slanted, 0.5, 1.0) == ((50, 25), (100, 50), (90, 70), (40, 45))


OTHER_FORMS = [
    ("United Nations", "the UN today", "UN"),
    ("UN", "UNITED NATIONS", "UNITED NATIONS"),
    ("NASA", "National Aeronautics and Space Administration", "National Aeronautics and Space Administration"),
    ("Arsenal", "#welovearsenal", "#welovearsenal"),
    ("Cruz Crew", "#cruzcrewforever", "#cruzcrewforever"),
]


@pytest.mark.parametrize(("mention", "text", "reading"), OTHER_FORMS)
def test_find_name_other_form_is_found(mention: str, text: str, reading: str) -> None:
    hit = find_name(mention, [line(text)])
    assert hit is not None and hit.text == reading and hit.quality == 0.9


NOT_ANOTHER_FORM = [
    ("United Nations", "un"),
    ("United Nations", "UNO"),
    ("UN", "under nets"),
    ("Iran", "#iranians2026"),  # four letters are too few inside a hashtag
]


@pytest.mark.parametrize(("mention", "text"), NOT_ANOTHER_FORM)
def test_find_name_similar_letters_are_not_found(mention: str, text: str) -> None:
    assert find_name(mention, [line(text)]) is None


def test_find_name_hashtag_gives_the_box_of_the_name_only() -> None:
    hit = find_name("Arsenal", [line("#welovearsenal")])
    assert hit is not None and hit.box == (70, 0, 140, 20)


def test_find_name_shirt_gives_name_and_number() -> None:
    beside, below = [line("SALAH 11")], [line("SALAH", x=100), line("11", x=110, y=30, height=60)]
    for lines, box in ((beside, (0, 0, 80, 20)), (below, (100, 0, 150, 90))):
        hit = find_name("Mohamed Salah", lines, person=True)
        assert hit is not None and hit.text == "SALAH 11" and hit.box == box
        assert find_name("Mohamed Salah", lines) is None, "only a person wears a shirt"
    assert find_name("Mohamed Salah", [line("SALAH")], person=True) is None
    assert find_name("Mohamed Salah", [line("SALAH SHOP 11")], person=True) is None


WORDS = ("ARCTIC", "NETFLIX", "ROTTERDAM", "VMware", "WIMBLEDON", "Angelina")


@pytest.mark.parametrize("font", ["DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSans-BoldOblique.ttf"])
def test_read_box_holds_the_whole_word(reader: TextReader, font: str) -> None:
    picture, face = Image.new("RGB", (640, 480), (30, 40, 90)), ImageFont.truetype(str(FONTS / font), 40)
    draw, truth = ImageDraw.Draw(picture), {}
    for i, word in enumerate(WORDS):
        x, y = 40 + 30 * (i % 3), 20 + 75 * i
        draw.text((x, y), f"{word} {i}1", fill=(250, 220, 120), font=face)
        truth[word] = draw.textbbox((x, y), word, font=face)
    words = {word.text: bounds([word.quad]) for entry in reader.read(picture) for word in entry.words}
    assert set(WORDS) <= set(words)
    for word, (left, top, right, bottom) in truth.items():
        box = words[word]
        assert box[0] <= left + 2 and box[1] <= top + 2 and box[2] >= right - 2 and box[3] >= bottom - 2, word
        assert box_iou(box, (left, top, right, bottom)) > 0.5, "and little more"


NAMES = st.lists(st.text("abcdefghijklmnopqrstuvwxyz", min_size=4, max_size=9), min_size=1, max_size=4)


@given(NAMES, st.sampled_from([str.upper, str.lower, str.title]))
def test_find_name_of_itself_in_any_case_has_quality_one(words: list[str], case: object) -> None:
    text = case("zz " + " ".join(words) + " zz")  # type: ignore[operator]
    hit = find_name(" ".join(words), [line(text)])
    assert hit is not None and hit.quality == 1
