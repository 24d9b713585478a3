"""The error of a failed run."""

from channelstream.bench.load import BenchFailed, failure_of

FIRST, SECOND = BenchFailed("refused"), BenchFailed("refused as well")


def test_the_failure_of_tasks_is_the_first_one() -> None:
    assert failure_of(BaseExceptionGroup("", [FIRST, SECOND])) is FIRST
    assert failure_of(BaseExceptionGroup("", [ExceptionGroup("", [FIRST]), SECOND])) is FIRST


def test_a_group_with_another_error_is_no_failure_of_the_run() -> None:
    assert failure_of(BaseExceptionGroup("", [FIRST, KeyError("bug")])) is None
