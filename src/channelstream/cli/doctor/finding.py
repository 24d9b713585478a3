"""Findings, what is examined, and how a check runs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from channelstream.cli.remote import Server
from channelstream.config import Settings

NODE_FLAG, URL_FLAG, TRUST_FLAG = "--node", "--url", "--trust"
"""Flags that name the address of a node, the public address, and a certificate to trust."""


class Level(StrEnum):
    """How bad a finding is. Only a fault changes the exit code."""

    FAULT = "fault"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found.

    Attributes:
        text: what is wrong, without a secret.
        advice: what to do.
    """

    level: Level
    text: str
    advice: str = ""


def fault(text: str, advice: str) -> Finding:
    return Finding(Level.FAULT, text, advice)


def warning(text: str, advice: str) -> Finding:
    return Finding(Level.WARNING, text, advice)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined.

    Attributes:
        settings: those with which the server would run here.
        ini: path of the INI file; empty means none.
        nodes: each node, at an address that does not lead through the proxy.
        public: the service as its clients reach it; None means that nothing is known about a proxy.
        wall: returns epoch seconds by the clock of this machine.
        first_bytes_s: how long the first bytes of a stream may take, in seconds.
    """

    settings: Settings
    ini: str = ""
    nodes: Sequence[Server] = ()
    public: Server | None = None
    wall: Callable[[], float] = time.time
    first_bytes_s: float = 1.0

    @property
    def entrance(self) -> Server:
        """The address that clients use, as far as it is known."""
        return self.public or self.nodes[0]

    @property
    def is_behind_proxy(self) -> bool:
        return self.public is not None or bool(self.settings.trusted_proxies)


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the tables.

    Attributes:
        name: for the output.
        run: returns findings; none means that all is well.
        applies: whether there is anything to examine; a check that does not apply is not reported.
        ends: whether a fault ends the examination, since the checks after it would only repeat it.
        timeout_s: when it is given up, in seconds.
    """

    name: str
    run: Callable[[Subject], Awaitable[Iterable[Finding]]]
    applies: Callable[[Subject], bool] = lambda _: True
    ends: bool = False
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """A finding with the name of its check."""

    check: str
    finding: Finding


async def examine(subject: Subject, checks: Iterable[Check]) -> list[Result]:
    """Run the checks that apply, one after the other: together they would disturb what they measure."""
    results: list[Result] = []
    for check in checks:
        found = await _run(check, subject) if check.applies(subject) else []
        results += found
        if check.ends and has_fault(found):
            break
    return results


def has_fault(results: Iterable[Result]) -> bool:
    return any(result.finding.level is Level.FAULT for result in results)


async def _run(check: Check, subject: Subject) -> list[Result]:
    try:
        async with asyncio.timeout(check.timeout_s):
            findings = list(await check.run(subject))
    except TimeoutError:
        findings = [
            fault(f"there is no result within {check.timeout_s:g} s", "look for what does not answer")
        ]
    return [Result(check.name, finding) for finding in findings or [Finding(Level.OK, "no fault")]]
