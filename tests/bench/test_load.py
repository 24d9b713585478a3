"""The error of a failed run."""

import pytest

from channelstream.bench.load import BenchFailed, failing_as_one

FIRST, SECOND = BenchFailed("refused"), BenchFailed("refused as well")


@pytest.mark.parametrize("errors", [[FIRST, SECOND], [ExceptionGroup("", [FIRST]), SECOND]])
def test_the_failure_of_tasks_is_the_first_one(errors: list[Exception]) -> None:
    with pytest.raises(BenchFailed, match=r"^refused$"), failing_as_one():
        raise ExceptionGroup("", errors)


def test_a_group_with_another_error_is_no_failure_of_the_run() -> None:
    group = ExceptionGroup("", [FIRST, KeyError("bug")])
    with pytest.raises(ExceptionGroup) as raised, failing_as_one():
        raise group
    assert raised.value is group
