"""Fewer messages from the workers of pytest-xdist: each costs more than a short test, at both ends."""

from typing import Any

import pytest

SHOWN_S = 0.005
"""Steps that take longer are shown by `--durations`."""


def is_needed(message: str, values: dict[str, Any]) -> bool:
    """Whether the first process shows anything of it: not that a test begins, nor a short step beside it that has passed."""
    if message != "testreport":
        return message != "logstart"
    report = values["data"]
    return (
        report["when"] == "call"
        or report["outcome"] != "passed"
        or report["duration"] > SHOWN_S
        or any(report.get(note) for note in ("cpu_s", "slow_turns"))
    )


def send_less(config: pytest.Config) -> None:
    """Have a worker keep to itself what nobody needs."""
    worker = next(plugin for plugin in config.pluginmanager.get_plugins() if hasattr(plugin, "sendevent"))
    send = worker.sendevent

    def send_needed(message: str, **values: Any) -> None:
        if is_needed(message, values):
            send(message, **values)

    worker.sendevent = send_needed
