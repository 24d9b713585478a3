"""The streams in the OpenAPI document. They are not API calls: `transports` serves them."""

from typing import Any, Final

from channelstream.api.fields import CONN_ID_EXAMPLE

_Json = dict[str, Any]

_CONN_ID: Final[_Json] = {
    "name": "conn_id",
    "in": "query",
    "required": True,
    "description": "The `conn_id` of the answer to `/connect`. A client that has it receives the events of its user.",
    "schema": {"type": "string"},
    "example": CONN_ID_EXAMPLE,
}
_CONN_ID_OR_TOKEN: Final[_Json] = _CONN_ID | {
    "required": False,
    "description": f"{_CONN_ID['description']} Only a client with a token (docs/tokens.md) opens a stream without it.",
}
_SINCE: Final[_Json] = {
    "name": "since",
    "in": "query",
    "description": "Position of the last event received: the stream resumes after it. Empty: new events only.",
    "schema": {"type": "string"},
}
_LAST_EVENT_ID: Final[_Json] = _SINCE | {"name": "Last-Event-ID", "in": "header"}
_CALLBACK: Final[_Json] = {
    "name": "callback",
    "in": "query",
    "description": "Name of a JavaScript function. The answer is a script that calls it with the list (JSONP).",
    "schema": {"type": "string", "maxLength": 128, "pattern": r"^[A-Za-z_$][\w$.]*$"},
}
_EVENTS: Final[_Json] = {
    "type": "array",
    "items": {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}},
}
_COMMAND: Final[_Json] = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string"}, "id": {"type": ["string", "integer", "null"]}},
}
_TEXT: Final[_Json] = {"schema": {"type": "string"}}


def _stream(name: str, summary: str, description: str, *parameters: _Json, **answers: _Json) -> _Json:
    return {
        "operationId": name,
        "summary": summary,
        "description": description,
        "security": [],
        "parameters": [_CONN_ID_OR_TOKEN, _SINCE, *parameters],
        "responses": {status.removeprefix("_"): answer for status, answer in answers.items()},
    }


def _refused(name: str) -> _Json:
    return {"$ref": f"#/components/responses/{name}"}


_REFUSED: Final = {
    "_401": _refused("UnknownConnection"),
    "_403": _refused("Forbidden"),
    "_409": _refused("Replaced"),
    "_422": _refused("Invalid"),
    "_429": _refused("TooManyRequests"),
    "_503": _refused("Unavailable"),
}
_TOO_LARGE: Final = _refused("TooLarge")


def _poll(method: str, **refused: _Json) -> _Json:
    return _stream(
        f"{method}_listen",
        "Wait for events (long poll)",
        "Answers with a list of events as soon as there are any, or with an empty list after a timeout. Send the next poll "
        "with the last position.",
        _CALLBACK,
        _200={
            "description": "The events, oldest first.",
            "content": {"application/json": {"schema": _EVENTS}, "application/javascript": _TEXT},
        },
        **_REFUSED,
        **refused,
    )


STREAMS: Final[dict[str, _Json]] = {
    "/ws": {
        "get": _stream(
            "get_ws",
            "Open a WebSocket",
            "RFC 6455. Each text message is a list of events; messages of a client without a token are ignored. The close "
            "code for an unknown `conn_id` is 4001.",
            _101={"description": "The WebSocket is open."},
            _400=_refused("BadHandshake"),
            _403=_refused("Forbidden"),
            _426=_refused("UpgradeRequired"),
        )
    },
    "/sse": {
        "get": _stream(
            "get_sse",
            "Open a stream of server-sent events",
            "Each `data` is a list of events, its `id` the position.",
            _LAST_EVENT_ID,
            _200={"description": "The stream.", "content": {"text/event-stream": _TEXT}},
            **_REFUSED,
        )
    },
    "/listen": {"get": _poll("get"), "post": _poll("post", _413=_TOO_LARGE)},
    "/client": {
        "post": {
            "operationId": "post_client",
            "summary": "Send commands of a client",
            "description": "Carries out the commands of a client whose token is in `Authorization: Bearer`, in order; "
            "docs/tokens.md has them.",
            "security": [],
            "parameters": [_CONN_ID],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"anyOf": [_COMMAND, {"type": "array", "items": _COMMAND}]}
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "The answers, each with the `id` of its command.",
                    "content": {"application/json": {"schema": _EVENTS}},
                },
                "401": _refused("UnknownConnection"),
                "403": _refused("Forbidden"),
                "413": _TOO_LARGE,
                "429": _refused("TooManyRequests"),
                "503": _refused("Unavailable"),
            },
        }
    },
}
"""Path items of the streams."""

REFUSALS: Final = {
    "BadHandshake": "The request is not a WebSocket handshake.",
    "UnknownConnection": "The `conn_id` is unknown or expired, or its connection has ended, or a token is not accepted; see "
    "`close_code`.",
    "Replaced": "A newer stream of the connection took over.",
    "UpgradeRequired": "The request is not a WebSocket handshake of version 13.",
    "TooManyRequests": "The address, the key or the application does so too often; see `Retry-After`.",
    "Unavailable": "The server is full or restarting, or its engine cannot be reached; see `Retry-After`.",
}
"""Refusals that streams use: name in the components -> description."""
