"""The colours of the pages."""

import re
from itertools import product

import pytest

from channelstream.pages.assets import STATIC

CSS = (STATIC / "base.css").read_text()
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in CSS.split("@media")[:2])
PAIRS = [
    *product(("text", "muted", "accent"), ("ground", "surface", "raised")),
    ("accent", "accent-soft"),
    ("muted", "accent-soft"),
    ("on-accent", "accent"),
    ("bad", "bad-soft"),
    ("warn", "warn-soft"),
]


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2, definition of that name)."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back"), PAIRS)
def test_text_can_be_read(scheme: dict[str, str], front: str, back: str) -> None:
    """Every text colour has a contrast of 4.5:1 on its background (WCAG AA), light and dark."""
    low, high = sorted((luminance(scheme[front]), luminance(scheme[back])))
    assert (high + 0.05) / (low + 0.05) >= 4.5
