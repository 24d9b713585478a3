"""The OpenAPI 3.1 document of the API, generated from the endpoint table and its schemas."""

import re
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import Any, Final

import msgspec

from channelstream.api import stream_docs
from channelstream.api.fields import CONN_ID_EXAMPLE
from channelstream.api.plain import SEND_JSON
from channelstream.api.table import Auth, Endpoint
from channelstream.core.request_signing import SCHEME
from channelstream.errors import BadSignature, Invalid, Malformed
from channelstream.http.router import PARAMETER

TITLE: Final = "Channelstream API"
REFUSALS: Final = {
    "400": ("Malformed", "The body is not JSON, not UTF-8, or nested too deep."),
    "401": ("BadSignature", "The signature is wrong, expired, from the future or for another endpoint."),
    "403": ("Forbidden", "The caller's address is not allowed, or the request is not signed."),
    "413": ("TooLarge", "The body is longer than the server accepts."),
    "415": ("UnsupportedEncoding", "The body is compressed; the server decompresses none."),
    "422": ("Invalid", "The body breaks the schema. `faults` lists every fault. Nothing was done."),
    "429": ("TooManyRequests", stream_docs.REFUSALS["TooManyRequests"]),
    "503": ("Unavailable", stream_docs.REFUSALS["Unavailable"]),
}
"""Answers to a refused request: status -> (name in the components, description)."""

_Json = dict[str, Any]
_ERROR_REF: Final[_Json] = {"$ref": "#/components/schemas/Error"}
_SCHEMAS = "#/components/schemas/{name}"
_DESCRIPTION = """\
Send messages to browsers, and control their connections, channels and user state.

Calls are signed: the header `authorization` carries an HMAC-SHA256 of method, path and query, time, nonce and body
(`CS-HMAC-SHA256`), or the header `x-channelstream-secret` carries `TimestampSigner(secret).sign(path)` of
[itsdangerous](https://itsdangerous.palletsprojects.com/). A signature is good for 60 seconds."""
_CREDENTIALS: Final[dict[str, _Json]] = {
    "signed": {
        "type": "http",
        "scheme": SCHEME,
        "description": "`key=ID, ts=SECONDS, nonce=RANDOM, sig=HEX`: a signature over the whole request.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`ID.SECRET` of a key, over https or loopback.",
    },
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "x-channelstream-secret",
        "description": "`TimestampSigner(secret).sign(path)`.",
    },
}
"""How a call proves for whom it acts: name in the components -> scheme. One of them is enough."""
_SIGNED_ONLY = ("401", "403", "429")
_BODY_ONLY = ("400", "413", "415", "422")
_WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")
_QUERY_EXAMPLES: Final = {"conn_id": CONN_ID_EXAMPLE}
_FAULTS_EXAMPLES: Final[dict[str, _Json]] = {
    "400": Malformed("Invalid JSON: Input data was truncated", SEND_JSON).body,
    "401": BadSignature().body,
    "422": Invalid({"channels": {"0": ["Length must be between 1 and 256."]}}).body,
}
_ERROR: Final[_Json] = {
    "type": "object",
    "description": "Any error. Faults by field are also at top level, where programs for 0.7 read them.",
    "required": ["error", "code"],
    "properties": {
        "error": {"type": "string", "description": "A sentence for people: the cause, and what to do."},
        "code": {"type": "string", "pattern": "^[a-z_]+$", "description": "A stable name, for programs."},
        "faults": {"type": "object", "description": "The faults by field, nested like the body."},
        "close_code": {"type": "integer", "description": "The WebSocket close code for the same error."},
        "request": {"type": "string", "description": "`Bad Signature`, as 0.7.1 answered."},
    },
}


def document(endpoints: Sequence[Endpoint], version: str) -> _Json:
    """Describe the endpoints.

    Args:
        endpoints: the table. A path may have several rows, a pair of path and method only one.
        version: the version of channelstream.
    """
    types = _types(endpoints)
    schemas, components = map(_without_closing, msgspec.json.schema_components(types, ref_template=_SCHEMAS))
    by_type = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, _Json] = {}
    for row in endpoints:
        path = PARAMETER.sub(r"{\1}", row.path)
        for method in row.methods:
            paths.setdefault(path, {})[method.lower()] = _operation(row, method, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in _CREDENTIALS],
        "paths": paths | stream_docs.STREAMS,
        "components": {
            "schemas": {name: _dedented(schema) for name, schema in components.items()} | {"Error": _ERROR},
            "responses": _refusals(),
            "securitySchemes": _CREDENTIALS,
        },
    }


def _without_closing(schema: Any) -> Any:
    """Return the schema without `"items": false`, which client generators refuse: `maxItems` closes a tuple as well."""
    if isinstance(schema, dict):
        return {
            key: _without_closing(part) for key, part in schema.items() if (key, part) != ("items", False)
        }
    return [_without_closing(part) for part in schema] if isinstance(schema, list | tuple) else schema


def _dedented(schema: _Json) -> _Json:
    """Return the schema with its description dedented: Markdown shows indented text as code."""
    return schema | {"description": cleandoc(schema["description"])} if "description" in schema else schema


def _types(endpoints: Sequence[Endpoint]) -> list[Any]:
    used = (kind for row in endpoints for kind in (row.request, row.response) if kind is not None)
    return list({id(kind): kind for kind in used}.values())


def _operation(row: Endpoint, method: str, schemas: dict[int, _Json]) -> _Json:
    has_body = row.request is not None and method in _WITH_BODY
    operation: _Json = {
        "operationId": method.lower() + re.sub(r"\W", "_", row.path),
        "summary": row.summary,
        "description": row.description,
        "parameters": [
            *(_parameter(name, "path", is_required=True) for name in PARAMETER.findall(row.path)),
            *(_in_query(name, has_body) for name in row.query),
        ],
        "responses": {"200": _success(row, schemas), **dict(_refusal_refs(row, has_body))},
    }
    if has_body:
        # A call that GET can make as well needs no body.
        operation["requestBody"] = {"required": "GET" not in row.methods} | _content(
            _one_or_many(row, schemas[id(row.request)]), row.example
        )
    if row.auth is Auth.NONE:
        operation["security"] = []
    return operation


def _parameter(name: str, place: str, is_required: bool) -> _Json:
    return {"name": name, "in": place, "required": is_required, "schema": {"type": "string"}}


def _in_query(name: str, has_body: bool) -> _Json:
    """Describe a parameter of the query. If a body can have it as well, only the body has the example: the query wins."""
    parameter = _parameter(name, "query", is_required=False)
    if has_body or name not in _QUERY_EXAMPLES:
        return parameter
    return parameter | {"example": _QUERY_EXAMPLES[name]}


def _success(row: Endpoint, schemas: dict[int, _Json]) -> _Json:
    done = {"description": "Done."}
    if row.response is None:
        return done
    return done | _content(_one_or_many(row, schemas[id(row.response)]))


def _one_or_many(row: Endpoint, schema: _Json) -> _Json:
    return {"oneOf": [schema, {"type": "array", "items": schema}]} if row.many else schema


def _content(schema: _Json, example: Any = None) -> _Json:
    shown = {} if example is None else {"example": example}
    return {"content": {"application/json": {"schema": schema, **shown}}}


def _refusal_refs(row: Endpoint, has_body: bool) -> Iterator[tuple[str, _Json]]:
    for status, (name, _) in REFUSALS.items():
        if _is_possible(status, row, has_body):
            yield status, {"$ref": f"#/components/responses/{name}"}


def _is_possible(status: str, row: Endpoint, has_body: bool) -> bool:
    if status in _SIGNED_ONLY:
        return row.auth is Auth.SIGNED
    # A call without a body is also refused with 422, if the query lacks the conn_id.
    return status not in _BODY_ONLY or has_body or (status == "422" and bool(row.query))


def _refusals() -> dict[str, _Json]:
    answers: dict[str, _Json] = {
        name: {"description": meaning, "content": {"application/json": {"schema": _ERROR_REF}}}
        for name, meaning in stream_docs.REFUSALS.items()
    }
    for status, (name, meaning) in REFUSALS.items():
        media: _Json = {"schema": _ERROR_REF}
        if status in _FAULTS_EXAMPLES:
            media["example"] = _FAULTS_EXAMPLES[status]
        answers[name] = {"description": meaning, "content": {"application/json": media}}
    return answers
