"""What `make autobahn` is made of, without the suite, which is not installed everywhere."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.autobahn.__main__ import GROUPS, faults, main
from tests.autobahn.echo import echoing
from tests.waiting import PATIENCE_S
from websockets.asyncio.client import connect

PASSED = {"behavior": "OK", "behaviorClose": "INFORMATIONAL"}


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_texts_and_binary_messages_come_back(compression: str | None) -> None:
    messages: list[str | bytes] = ["", "κόσμε" * 1000, b"", bytes(range(256)) * 1000]

    async def scenario() -> list[str | bytes]:
        async with echoing() as url, connect(url, compression=compression, max_size=None) as stream:
            back = []
            for message in messages:
                await stream.send(message)
                back.append(await stream.recv())
            return back

    assert uvloop.run(asyncio.wait_for(scenario(), PATIENCE_S)) == messages


def all_passed() -> dict[str, dict[str, Any]]:
    return {f"{group}.{number}": PASSED for group, count in GROUPS.items() for number in range(count)}


def test_a_report_with_every_case_is_without_faults() -> None:
    assert faults(all_passed(), GROUPS) == []


def test_cases_that_did_not_run_or_did_not_pass_are_faults() -> None:
    cases = all_passed()
    del cases["9.53"]
    cases["2.1"] = {"behavior": "FAILED", "behaviorClose": "OK"}
    cases["13.3.1"] = cases["13.1.1"] = {"behavior": "UNIMPLEMENTED", "behaviorClose": "OK"}
    cases["7.1"] = {"behavior": "OK", "behaviorClose": "WRONG CODE"}
    assert faults(cases, GROUPS) == [
        "group 9: 53 of 54 cases ran",
        "case 2.1: FAILED, closed OK",
        "case 7.1: OK, closed WRONG CODE",
        "case 13.1.1: UNIMPLEMENTED, closed OK",
    ]


def test_an_earlier_report_is_not_taken_for_that_of_a_suite_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "index.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["autobahn", "--report", str(tmp_path), "/bin/false"])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
