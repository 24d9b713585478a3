"""Runs plans without I/O: which requests to send, how long to wait, when to fail.

`carry_out` is a generator of steps. A driver (`client`) does each step, blocking or async, and sends the outcome back.
"""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from channelstream_client.calls import Call, Plan, Reply
from channelstream_client.errors import REFUSALS, BadAnswer, ChannelstreamError, Refused, Unreachable
from channelstream_client.protocol import NO_JSON
from channelstream_client.retry_after import seconds_to_wait
from channelstream_client.signing import Form, Signer

_SHOWN_CHARS = 500
"""Most characters of an answer that is not JSON that an error shows."""
_OF_A_GATEWAY = frozenset({502, 504})
"""Statuses of a gateway that got no answer from the server: the call may have taken effect."""
_TOO_MANY, _UNAVAILABLE = 429, 503

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A step: send this request. Its outcome is an `Answer`, or `Unreachable`."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Pause:
    """A step: wait so many seconds."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of the server.

    Attributes:
        retry_after: text of the header Retry-After; empty means absent.
        challenge: text of the header WWW-Authenticate; empty means absent.
        at: time of the answer, in seconds since the epoch.
    """

    status: int
    body: bytes
    retry_after: str = ""
    at: float = 0.0
    challenge: str = ""


Outcome = Answer | Unreachable | None
Steps = Generator[Request | Pause, Outcome, T]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and when, a call is repeated after no answer, a 429 or a 503.

    Attributes:
        attempts: most attempts; 1 means no retry.
        first_wait_s: upper bound of the first wait; it doubles with each further failure.
        longest_wait_s: upper bound of all waits. If `Retry-After` is longer, the call fails at once.
    """

    attempts: int = 4
    first_wait_s: float = 0.25
    longest_wait_s: float = 10.0

    def wait_s(self, failures: int, jitter: float) -> float:
        """Return the seconds to wait after so many failures, with full jitter: a random part of the upper bound.

        Args:
            jitter: a random number from 0 to 1.
        """
        return jitter * min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 32))


@dataclass(frozen=True, slots=True)
class Caller:
    """Signs and repeats calls.

    Attributes:
        jitter: returns random numbers from 0 to 1.
    """

    signer: Signer
    retries: Retries
    jitter: Callable[[], float]

    def carry_out(self, plan: Plan[T]) -> Steps[T]:
        """Yield the steps of a plan and return its result. An error of a call is raised inside the plan first.

        Raises:
            ChannelstreamError: a call failed after all attempts.
        """
        try:
            call = next(plan)
            while True:
                try:
                    reply = yield from self._attempts(call)
                except ChannelstreamError as error:
                    call = plan.throw(error)
                else:
                    call = plan.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _attempts(self, call: Call) -> Steps[Reply]:
        failures = 0
        repeated = False
        while True:
            outcome = yield from self._signed(call)
            try:
                return Reply(result_of(outcome), repeated)
            except (Unreachable, Refused) as error:
                failures += 1
                repeated = repeated or not (isinstance(error, Refused) and error.status == _TOO_MANY)
                yield Pause(self._pause_s(error, failures))

    def _pause_s(self, error: Unreachable | Refused, failures: int) -> float:
        """Return the seconds until the next attempt. Raise the error if there is no next attempt."""
        least_s = 0.0
        if isinstance(error, Refused):
            repeatable = error.status in (_TOO_MANY, _UNAVAILABLE)
            if not repeatable or (error.retry_after_s or 0) > self.retries.longest_wait_s:
                raise error
            least_s = error.retry_after_s or 0.0
        if failures >= self.retries.attempts:
            raise error
        return least_s + self.retries.wait_s(failures, self.jitter())

    def _signed(self, call: Call) -> Steps[Outcome]:
        """Return the outcome of one attempt; it is sent twice if the server does not know the form of its signature."""
        form = self.signer.form or "signed"
        outcome = yield self._request(call, form)
        other = self._other_form(form, call, outcome)
        if other is not None:
            form, outcome = other, (yield self._request(call, other))
        if isinstance(outcome, Answer) and 200 <= outcome.status < 300:
            self.signer.accepted(form, call.path)
        return outcome

    def _request(self, call: Call, form: Form) -> Request:
        # Each attempt is signed again: a signature counts once, and for a minute only.
        headers = self.signer.headers(form, call.method, call.path, call.body)
        return Request(call.method, call.path, call.body, {"content-type": "application/json", **headers})

    def _other_form(self, form: Form, call: Call, outcome: Outcome) -> Form | None:
        if not isinstance(outcome, Answer):
            return None
        return self.signer.other_form(form, call.path, outcome.status, outcome.challenge)


def result_of(outcome: Outcome) -> Any:
    """Return the JSON of a successful answer.

    Raises:
        Unreachable: there is no answer, or a gateway reports that it got none.
        Refused: the server answered with an error.
        BadAnswer: the answer is not JSON.
    """
    if not isinstance(outcome, Answer):
        raise outcome or Unreachable("no answer")
    good = 200 <= outcome.status < 300
    try:
        body = json.loads(outcome.body)
    except NO_JSON:
        body = outcome.body[:_SHOWN_CHARS].decode(errors="replace")
        if good:
            raise BadAnswer(f"expected JSON, got {body!r}") from None
    if good:
        return body
    if outcome.status in _OF_A_GATEWAY:
        raise Unreachable(f"a gateway answered {outcome.status}: {body}")
    wait_s = seconds_to_wait(outcome.retry_after, outcome.at)
    raise REFUSALS.get(outcome.status, Refused)(outcome.status, body, wait_s)
