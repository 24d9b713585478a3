"""Few lines about one thing: the next one says how many were omitted."""

from channelstream.core.line_limit import LineLimit


def test_lines_are_limited() -> None:
    """At the limit lines are counted instead, until the oldest one is a period old; the next one has their number."""
    limit = LineLimit(lines=2, period_s=60.0)
    assert [limit.admits(now_s) for now_s in (0.0, 1.0, 2.0, 59.0)] == [True, True, False, False]
    assert limit.admits(60.0)
    assert (limit.take_omitted(), limit.take_omitted()) == ("; 2 more not logged", "")
    assert [limit.admits(now_s) for now_s in (60.5, 61.0)] == [False, True]
