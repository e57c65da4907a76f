"""Posts that count as English: other scripts, other languages, and unclear English."""

from pathlib import Path

import pytest

from namepin.evals.datasets.conll import read_tagged_posts
from namepin.tools.language import not_english

OTHERS = {
    "Japanese writing": [
        "昨日ニューヨークでテイラー・スウィフトのライブを見た!最高だった",
        "大谷翔平がホームラン",
        "東京タワーに行った",
    ],
    "Chinese writing": ["今天在北京看到了姚明,太高兴了", "特朗普和拜登的辩论"],
    "Korean writing": ["오늘 서울에서 방탄소년단 콘서트를 봤어요", "손흥민 골!"],
    "Arabic writing": ["محمد صلاح يسجل هدفين لليفربول", "زيارة إلى القاهرة اليوم"],
    "Cyrillic writing": ["Сегодня в Москве прошёл концерт", "Путин встретился с Макроном"],
    "Devanagari writing": ["विराट कोहली ने शतक लगाया", "आज दिल्ली में बारिश"],
    "Thai writing": ["วันนี้ไปกรุงเทพ", "ลิซ่า แบล็กพิงค์"],
    "Greek writing": ["Ο Αντετοκούνμπο στην Αθήνα", "Καλημέρα από τη Θεσσαλονίκη"],
    "Hebrew writing": ["נתניהו נפגש עם ביידן", "היום בתל אביב"],
    "words of Spanish": [
        "Hoy vimos a Shakira en el estadio de Barcelona",
        "Messi marca dos goles y el PSG gana en París",
        "Gracias a todos por una noche increíble en Madrid",
    ],
    "words of Portuguese": [
        "Neymar não vai jogar hoje pelo Brasil",
        "O show da Anitta em Lisboa foi incrível, obrigado a todos",
    ],
    "words of French": [
        "Emmanuel Macron est à Marseille pour la fête de la musique",
        "Un grand merci à Zinedine Zidane pour cette soirée",
    ],
    "words of German": [
        "Angela Merkel ist heute in Hamburg und trifft den Bürgermeister",
        "Der FC Bayern gewinnt das Spiel gegen Dortmund",
    ],
    "words of Italian": [
        "Grazie a Roberto Mancini per la vittoria della Nazionale",
        "Oggi siamo a Roma con gli amici di Sky",
    ],
    "words of Dutch": [
        "Max Verstappen wint de race in Zandvoort en het is feest",
        "Wat een mooie dag op het strand van Scheveningen",
    ],
    "words of Indonesian or Malay": [
        "Presiden Jokowi dan Ibu Iriana tiba di Bandung hari ini",
        "Selamat datang di Jakarta untuk semua",
    ],
    "words of Turkish": [
        "Bugün İstanbul'da bir konser var, Tarkan çok iyi",
        "Fenerbahçe ve Galatasaray için büyük gün",
    ],
    "words of Tagalog": [
        "Ang ganda ng Maynila ngayon kasama si Sarah Geronimo",
        "Salamat sa mga fans ni Manny Pacquiao",
    ],
    "words of Polish": [
        "Robert Lewandowski nie zagra dziś w Warszawie",
        "Dziękuję za koncert w Krakowie, był bardzo dobry",
    ],
    "words of Swedish, Danish or Norwegian": [
        "Zlatan är tillbaka i Malmö och vi är glada",
        "Tack till alla som var med på Gröna Lund",
    ],
    "words of Finnish": [
        "Kimi Räikkönen on mutta ei Helsingissä tänään",
        "Kiitos Tampere, se oli hyvä ilta ja hyvä peli",
    ],
    "words of Vietnamese": [
        "Hôm nay tôi đi xem Sơn Tùng ở Hà Nội với bạn",
        "Đội tuyển của chúng tôi đã thắng trong trận này",
    ],
}

ENGLISH = [
    "So proud of Eileen Collins, the first woman to command a Space Shuttle",
    "A SpaceX Falcon 9 waits for its night launch at Cape Canaveral, Florida",
    "RT @catsoflondon: Chelsea wants breakfast NOW, Arsenal fans can wait 😹",
    "Angelina Jolie slams Donald Trump",
    "Trump vs Clinton",
    "NASA",
    "hello",
    "#MUFC #EPL",
    "Watching 進撃の巨人 tonight with friends",
    "Los Angeles Lakers beat San Antonio Spurs",
    "Ludwig van Beethoven and Vincent van Gogh",
    "Rio de Janeiro, El Salvador, La Paz",
    "Die Hard is the best Christmas movie",
    "Café Müller opens in München",
    "lol so cute omg",
    "😀😀 🎉",
    "1 2 3",
    "",
]


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in OTHERS.items() for text in texts])
def test_text_of_another_language_is_recognised(reason: str, text: str) -> None:
    assert not_english(text) == reason


@pytest.mark.parametrize("text", ENGLISH)
def test_english_text_is_not_suspected(text: str) -> None:
    assert not_english(text) is None


def test_many_small_words_without_an_english_one_are_suspected() -> None:
    assert (
        not_english("sinun kanssasi kesällä rannalla juoksen nopeasti veteen aamulla iloisena")
        == "no English function word"
    )


@pytest.mark.data
def test_english_posts_of_gmner_are_hardly_ever_suspected(data_root: Path) -> None:
    posts = read_tagged_posts(data_root / "gmner" / "txt" / "dev.txt", 1)[0]
    suspected = [post.id for post in posts if not_english(" ".join(post.tokens))]
    assert len(posts) == 1500 and len(suspected) <= 6, suspected
