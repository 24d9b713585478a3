"""When a call is repeated, and when it is given up.

By the specification of Standard Webhooks ("Delivery success and failure") each status besides 2xx is a failure, which is
repeated, 404 included, but for 410: with it a receiver says that it is not interested any more.
"""

from dataclasses import dataclass

from channelstream.apps.webhooks import Receiver


@dataclass(frozen=True, slots=True)
class Schedule:
    """The waits between the attempts of a call, in seconds: each is twice the one before.

    Attributes:
        longest_s: the longest of them.
        give_up_s: no attempt begins later than this after the first one.
        final: statuses with which a call is not repeated.
    """

    longest_s: float
    give_up_s: float
    final: frozenset[int] = frozenset()

    def wait_s(self, failed: int, asked_s: float) -> float:
        """Return the wait after so many attempts that failed, one or more.

        Args:
            asked_s: what the receiver asks for, 0 for nothing; beyond the longest wait it is not heeded.
        """
        return float(min(max(2 ** min(failed - 1, 20), asked_s), self.longest_s))


PUSHER = Schedule(longest_s=64.0, give_up_s=300.0)
"""Waits as Pusher does, whatever the status: 1, 2, 4 .. s for five minutes."""
STANDARD = Schedule(longest_s=600.0, give_up_s=86_400.0, final=frozenset((410,)))
"""Tries for a day, and at least every ten minutes, so that a receiver that is back is noticed."""


def schedule_of(receiver: Receiver) -> Schedule:
    """Return the schedule of a receiver's format."""
    return STANDARD if receiver.pusher is None else PUSHER
