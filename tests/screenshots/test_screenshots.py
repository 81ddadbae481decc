"""The pictures in the documentation are made from the real thing, and can be made again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pyte
import pytest

from tests.screenshots._picture import FAINT, DimScreen, svg

ROOT = Path(__file__).parent.parent.parent
IMAGES = ROOT / "docs" / "images"
SHOWN = {
    "docket-top.svg": [
        "shop",
        "Running",
        "import_prices",
        "make_thumbnails",
        "Workers",
        "ember",
        "cobalt",
        "Last failures",
        "the bank does not answer",
        "Strikes",
    ],
    "docket-watch.svg": ["album-17", "make_thumbnails", "running for", "album 17"],
}


def words_of(path: Path) -> str:
    return " ".join(ET.parse(path).getroot().itertext()).replace("\u00a0", " ")


def test_the_script_makes_the_pictures(tmp_path: Path):
    command = [sys.executable, "-m", "tests.screenshots", "--to", str(tmp_path), "--seconds", "0"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=55)

    assert done.returncode == 0, done.stderr
    for name, words in SHOWN.items():
        shown = words_of(tmp_path / name)
        assert [word for word in words if word not in shown] == [], shown


@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_in_the_documentation_shows_the_same_and_asks_nobody_for_anything(name: str):
    shown = words_of(IMAGES / name)
    text = (IMAGES / name).read_text()

    assert [word for word in SHOWN[name] if word not in shown] == [], shown
    assert len(text) < 40_000
    assert re.findall(r"(?:href|src|url|@import)\b", text) == []
    assert set(re.findall(r"https?://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}  # the name of SVG, not a place


def test_a_picture_shows_colours_grounds_and_what_is_dim():
    screen = DimScreen(20, 3)
    words = "\x1b[2mfaint\x1b[0m \x1b[2m \x1b[22mplain\x1b[38;5;2mgreen\x1b[0m\r\n\x1b[1;31ma<b\x1b[0m  \x1b[7mkey\x1b[0m"
    pyte.ByteStream(screen).feed(words.encode())

    drawn = svg(screen, "a & b")

    assert ET.fromstring(drawn).findtext("{http://www.w3.org/2000/svg}title") == "a & b"
    assert f'fill="{FAINT}">faint<' in drawn
    assert 'fill="#dee2ea">plain<' in drawn
    assert 'fill="#ff7b7b" font-weight="bold">a&lt;b<' in drawn
    assert re.search(r'<rect x="[\d.]+" y="\d+" width="25.2" height="18" fill="#dee2ea"/>', drawn)
