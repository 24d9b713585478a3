"""Which facts the webhooks of each application report."""

from typing import get_args

import pytest

from channelstream.apps.keys import DEFAULT, make_key, make_member_key
from channelstream.apps.wanted_facts import NOTHING_WANTED, AppFacts, WantedFacts
from channelstream.core.facts import Fact, kind_of

WANTED = WantedFacts({
    DEFAULT: AppFacts(frozenset(("added", "occupied")), hidden=("pusher/#", "-")),
    "shop": AppFacts(frozenset(("occupied",))),
    "all": AppFacts(frozenset(map(kind_of, get_args(Fact)))),
})  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "key", "is_wanted"),
    [
        ("occupied", "news", True),
        ("added", "news", True),
        ("vacated", "news", True),
        ("online", "news", False),
        ("occupied", "pusher/#server-to-user-1", False),
        ("occupied", "-x", False),
        ("occupied", make_key("shop", "pusher/#x"), True),
        ("added", make_key("shop", "news"), False),
        ("vacated", make_key("shop", "news"), True),
        ("occupied", make_key("other", "news"), False),
        ("online", make_key("all", "ann"), True),
        ("online", make_member_key("all", "news", "ann"), False),
        ("opened", make_member_key("all", "news", "ann"), False),
        ("online", make_member_key("all", "", "ann"), False),
        ("opened", make_member_key("all", "", "ann"), True),
        ("closed", make_member_key("all", "", "ann"), True),
        ("opened", make_member_key("other", "", "ann"), False),
    ],
)
def test_an_application_wants_its_kinds(kind: str, key: str, is_wanted: bool) -> None:
    """And what ends those; nothing about what it hides, and nothing about another application."""
    assert WANTED.wants(kind, key) is is_wanted


def test_an_application_that_wants_no_kind_counts_as_none() -> None:
    """An application that wants no kind counts as none."""
    assert WANTED
    assert not NOTHING_WANTED
    assert not WantedFacts({"shop": AppFacts(frozenset())})
