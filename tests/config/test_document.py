"""docs/options.md."""

from pathlib import Path

from channelstream.config.document import render_markdown
from channelstream.config.settings import OPTIONS

PAGE = Path(__file__).parents[2] / "docs" / "options.md"


def test_page_is_current() -> None:
    """The page is the output of the table: `python -m channelstream.config > docs/options.md`."""
    assert PAGE.read_text("utf-8") == render_markdown()


def test_every_option_is_documented() -> None:
    """Each option has one row with its name, bounds and sentence."""
    rows = [line for line in render_markdown().splitlines() if line.startswith("| `")]
    for option in OPTIONS:
        [row] = [row for row in rows if row.startswith((f"| `{option.name}` ", f"| `{option.name}`,"))]
        assert option.allowed in row
        assert option.declared.sentence in row
