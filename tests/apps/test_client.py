"""What a token says about its client."""

import pytest

from channelstream.apps.app import App
from channelstream.apps.client import Client


@pytest.mark.parametrize(("now_s", "left_s"), [(10.0, 90.0), (100.0, 0.0), (200.0, 0.0)])
def test_a_token_has_no_time_left_once_it_has_expired(now_s: float, left_s: float) -> None:
    """It is never less than none, so that a timer can take it."""
    assert Client(App(), "ann", expires_s=100.0).left_s(now_s) == left_s
