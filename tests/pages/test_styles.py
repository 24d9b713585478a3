"""The styles of the pages, in browsers that do not know the newest CSS."""

import re
from pathlib import Path

import channelstream

STYLES = [
    path
    for path in sorted(Path(channelstream.__file__).parent.rglob("*.css"))
    if path.parent.name != "swagger-ui"
]
SPOKEN = re.compile(r'(?P<before>.*)\n *content: (?P<shown>.+) / "[^"]*";')


def test_marks_are_shown_where_they_cannot_have_another_text_for_readers() -> None:
    """Firefox before 128 and Safari before 17.4 ignore a `content` with a slash: one without stands before it."""
    found = [match for path in STYLES for match in SPOKEN.finditer(path.read_text())]
    assert found
    assert [each["before"].strip() for each in found] == [f"content: {each['shown']};" for each in found]
