"""The OpenAPI 3.1 document of the API, written from the endpoint table and its schemas."""

from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import Any, Final

import msgspec

from channelstream.api.table import Endpoint

TITLE: Final = "Channelstream API"
REFUSALS: Final = {
    "400": ("Malformed", "The body is not JSON, not UTF-8, or nested too deep."),
    "401": ("BadSignature", "The signature is wrong, expired, from the future or for another endpoint."),
    "403": ("Forbidden", "The caller's address is not admitted, or no signature was given."),
    "413": ("TooLarge", "The body is longer than the server takes."),
    "422": ("Invalid", "The body breaks the schema: all its faults, nested like the body. Nothing was done."),
}
"""Answers to a refused request: status -> (name in the components, what it means)."""

_Json = dict[str, Any]
_SCHEMAS = "#/components/schemas/{name}"
_DESCRIPTION = """\
Send messages to browsers and tell which channels they hear.

Calls are signed: the header `x-channelstream-secret` carries `TimestampSigner(secret).sign(path)` of
[itsdangerous](https://itsdangerous.palletsprojects.com/). A signature is good for 60 seconds."""
_SIGNED_ONLY = ("401", "403")
_BODY_ONLY = ("400", "413", "422")
_WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")
_FAULTS_EXAMPLES: Final[dict[str, _Json]] = {
    "400": {"_schema": ["Invalid JSON: Input data was truncated"]},
    "401": {"request": "Bad Signature"},
    "422": {"channels": {"0": ["Length must be between 1 and 256."]}},
}


def document(endpoints: Sequence[Endpoint], version: str) -> _Json:
    """Describe the endpoints.

    Args:
        endpoints: the table; a path may have several rows, each (path, method) only one.
        version: version of the program, not of OpenAPI.
    """
    types = _types(endpoints)
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS)
    by_type = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, _Json] = {}
    for row in endpoints:
        for method in row.methods:
            paths.setdefault(row.path, {})[method.lower()] = _operation(row, method, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"signature": []}],
        "paths": paths,
        "components": {
            "schemas": {name: _told(schema) for name, schema in components.items()},
            "responses": _refusals(),
            "securitySchemes": {"signature": _signature_scheme()},
        },
    }


def _told(schema: _Json) -> _Json:
    """Return a schema whose docstring is not indented, which Markdown would take for code."""
    return schema | {"description": cleandoc(schema["description"])} if "description" in schema else schema


def _types(endpoints: Sequence[Endpoint]) -> list[Any]:
    used = (kind for row in endpoints for kind in (row.request, row.response) if kind is not None)
    return list({id(kind): kind for kind in used}.values())


def _operation(row: Endpoint, method: str, schemas: dict[int, _Json]) -> _Json:
    has_body = row.request is not None and method in _WITH_BODY
    operation: _Json = {
        "operationId": f"{method.lower()}{row.path.replace('/', '_').replace('-', '_').replace('.', '_')}",
        "summary": row.summary,
        "description": row.description,
        "parameters": [_query_parameter(name) for name in row.query],
        "responses": {"200": _success(row, schemas), **dict(_refusal_refs(row, has_body))},
    }
    if has_body:
        operation["requestBody"] = _content(_one_or_many(row, schemas[id(row.request)]))
    if not row.signed:
        operation["security"] = []
    return operation


def _query_parameter(name: str) -> _Json:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}


def _success(row: Endpoint, schemas: dict[int, _Json]) -> _Json:
    done = {"description": "Done."}
    if row.response is None:
        return done
    return done | _content(_one_or_many(row, schemas[id(row.response)]))


def _one_or_many(row: Endpoint, schema: _Json) -> _Json:
    return {"oneOf": [schema, {"type": "array", "items": schema}]} if row.many else schema


def _content(schema: _Json) -> _Json:
    return {"content": {"application/json": {"schema": schema}}}


def _refusal_refs(row: Endpoint, has_body: bool) -> Iterator[tuple[str, _Json]]:
    for status, (name, _) in REFUSALS.items():
        if (status in _SIGNED_ONLY and row.signed) or (status in _BODY_ONLY and has_body):
            yield status, {"$ref": f"#/components/responses/{name}"}


def _refusals() -> dict[str, _Json]:
    answers: dict[str, _Json] = {}
    for status, (name, meaning) in REFUSALS.items():
        media: _Json = {"schema": {"type": "object"}}
        if status in _FAULTS_EXAMPLES:
            media["example"] = _FAULTS_EXAMPLES[status]
        answers[name] = {"description": meaning, "content": {"application/json": media}}
    return answers


def _signature_scheme() -> _Json:
    return {
        "type": "apiKey",
        "in": "header",
        "name": "x-channelstream-secret",
        "description": "`TimestampSigner(secret).sign(path)`.",
    }
