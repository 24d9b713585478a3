"""An application, and all applications of a server."""

from collections.abc import Iterator
from dataclasses import dataclass

DEFAULT = "default"
"""The id of the application that the options outside of any section describe."""


@dataclass(frozen=True, slots=True)
class AppLimits:
    """Upper bounds of one call of an application.

    Attributes:
        messages: messages in one list.
        info_users: users of a channel in one answer.
    """

    messages: int = 100_000
    info_users: int = 1_000


@dataclass(frozen=True, slots=True)
class App:
    """An application.

    Attributes:
        id: names it in the configuration, and in the keys of its channels, users and connections.
    """

    id: str = DEFAULT
    limits: AppLimits = AppLimits()


class Apps:
    """The applications of a server: the default one, and further ones."""

    def __init__(self, default: App, *further: App) -> None:
        self.default = default
        self._apps = {app.id: app for app in (default, *further)}
        if len(self._apps) <= len(further):
            raise ValueError("two applications have the same id")

    def __iter__(self) -> Iterator[App]:
        return iter(self._apps.values())
