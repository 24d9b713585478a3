"""An application that publishes, edits and deletes by signed requests, straight to any node of the server."""

from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

import httpx
from tests.e2e.cut_lines.truth import Published, Truth
from tests.http_client import async_client

REMEMBERED = 50
"""Messages of which one may be edited or deleted."""


@dataclass(frozen=True)
class Audience:
    """Channels and users that messages may go to."""

    channels: tuple[str, ...]
    users: tuple[str, ...]


class Publisher:
    """Sends one request after the other and records acknowledgements."""

    def __init__(self, server: Any, truth: Truth, audience: Audience, random: Random) -> None:
        self._server = server
        self._truth = truth
        self._audience = audience
        self._random = random
        self._sent = 0
        self._messages: list[dict[str, Any]] = []

    async def run(self, requests: int) -> None:
        """Send so many requests, and then a last private message for everybody."""
        async with async_client() as http:
            for _ in range(requests):
                drawn = self._random.choices(("POST", "PATCH", "DELETE"), (8, 1, 1))[0]
                method = drawn if self._messages else "POST"
                await self._request(http, method, self._bodies(method))
            farewell = self._message() | {"channel": None, "pm_users": list(self._audience.users)}
            farewell.pop("exclude_users", None)
            await self._request(http, "POST", [farewell], last=True)

    async def _request(
        self, http: httpx.AsyncClient, method: str, bodies: list[dict[str, Any]], last: bool = False
    ) -> None:
        for body in bodies:
            self._truth.send(_published(method, body))
        self._truth.complete = last
        url, headers = f"{self._server.url}/message", self._server.sign("/message")
        answer = await http.request(method, url, json=bodies, headers=headers)
        answer.raise_for_status()
        self._truth.acknowledged = len(self._truth.events)

    def _bodies(self, method: str) -> list[dict[str, Any]]:
        if method == "POST":
            return [self._message() for _ in range(self._random.randint(1, 12))]
        message = self._messages.pop(self._random.randrange(len(self._messages)))
        return [message | {"message": {"n": self._next()}} if method == "PATCH" else message]

    def _message(self) -> dict[str, Any]:
        number = self._next()
        message = {
            "uuid": str(UUID(int=number, version=4)),
            "user": "app",
            "message": {"n": number, "text": "x" * self._random.randint(0, 200)},
            **self._recipients(),
        }
        self._messages = [*self._messages[1 - REMEMBERED :], message]
        return message

    def _recipients(self) -> dict[str, Any]:
        """Draw the recipients of a message: mostly a channel, also some users in it or without it."""
        channel = self._random.choice(self._audience.channels)
        some = self._random.sample(self._audience.users, 3)
        return self._random.choices(
            (
                {"channel": channel},
                {"channel": channel, "exclude_users": some},
                {"channel": channel, "pm_users": some},
                {"channel": None, "pm_users": some},
            ),
            (7, 1, 1, 1),
        )[0]

    def _next(self) -> int:
        self._sent += 1
        return self._sent


KINDS = {"POST": "message", "PATCH": "message:edit", "DELETE": "message:delete"}


def _published(method: str, body: dict[str, Any]) -> Published:
    number = None if method == "DELETE" else body["message"]["n"]
    only = body.get("pm_users")
    return Published(
        (KINDS[method], body["uuid"]),
        number,
        body["channel"] or "",
        None if only is None else frozenset(only),
        frozenset(body.get("exclude_users", ())),
    )
