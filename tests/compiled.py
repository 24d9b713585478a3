"""What differs if the tests run with a compiled build (`make test-compiled`)."""

from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from channelstream.core import hub

IS_COMPILED = hub.__file__.endswith(tuple(EXTENSION_SUFFIXES))
REPLACING = (
    "core/test_acceptance.py::test_very_many_early_edits_are_looked_at_once",
    "core/test_rounds.py::test_a_very_large_batch_is_split_once_in_a_round",
    "core/test_rounds.py::test_many_changes_cost_a_flush_one_lookup_each",
    "engines/test_many_channels_failing.py::test_a_fault_midway_leaves_nothing_half_done",
    "engines/test_sqlite_refusals.py::test_a_bug_is_not_blamed_on_the_file",
    "service/test_members.py::test_members_of_all_nodes_are_listed_in_slices",
    "service/test_parts.py::test_few_steps_of_an_event_wait_for_the_engine",
    "service/test_service.py::test_a_connection_is_registered_by_keys_and_described_by_names",
    "service/test_service.py::test_a_message_counts_once",
    "service/test_service.py::test_an_engine_that_always_waits_is_not_asked_to_connect_at_once",
    "service/test_service.py::test_an_event_for_very_many_users_gets_its_keys_in_slices",
    "service/test_service.py::test_members_have_their_names",
    "service/test_service.py::test_other_tasks_run_between_slices_of_keys",
    "service/test_service.py::test_the_very_many_users_of_a_body_are_made_a_set_in_slices",
    "service/test_service.py::test_too_many_channels_are_refused_before_their_keys_are_made",
    "simulation/",
    "test_draining.py::test_nobody_expires_while_the_last_sockets_close",
    "test_key_watch.py::test_a_key_that_expires_while_a_stream_opens_opens_none",
    "test_server.py::test_port_in_use_on_one_address_of_several",
    "test_tracing.py::test_tracing_that_is_off_costs_nothing",
    "transports/test_new_channels_of_strangers.py::test_the_lines_of_an_address_share_a_bound",
    "transports/test_opening.py::test_a_websocket_that_cannot_be_opened_is_closed",
    "transports/test_opening.py::test_a_client_that_leaves_while_its_websocket_is_refused_is_written_nothing",
    "transports/test_opening.py::test_an_event_stream_that_cannot_be_opened_is_answered_or_ends",
    "transports/test_second_protocol.py::",
    "transports/test_websocket.py::test_a_refused_websocket_is_closed_with_the_code_of_its_error",
    "upgrade/test_moving_calls.py::test_a_request_that_does_not_end_refuses_the_move",
)
"""Tests that give a compiled module their own function, subclass or object in place of what it was compiled with."""
WARNING = r"ignore:the \(type, exc, tb\) signature of throw\(\) is deprecated:DeprecationWarning"
"""Of code that mypyc 2.4 writes, where CPython 3.12 or newer cancels a coroutine. Outside of tests nobody sees it."""
SOURCE = tuple(
    f"test_{name}.py" for name in ("layers", "words", "waits", "docs", "packages", "compiled_build", "image")
)
"""Tests of the files of a checkout, or of what is built of them."""


def left_out(item: pytest.Item) -> str | None:
    """Say why a test is skipped with a compiled build; None: it runs."""
    name = item.nodeid.removeprefix("tests/")
    if name.startswith(REPLACING):
        return "replaces a part of a module that is compiled here"
    return "is about the files of a checkout" if name.startswith(SOURCE) else None
