"""Signals that come while a process starts: they wait until it has decided what they do, since by default they end it.

SIGTERM and SIGINT do not wait: there is nothing to drain yet.
"""

import signal

EARLY = (signal.SIGHUP, signal.SIGUSR2)


def hold() -> None:
    """Let them wait, first of all."""
    signal.pthread_sigmask(signal.SIG_BLOCK, EARLY)


def let_go() -> None:
    """Do now what those that wait have asked for."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)
