"""The OpenAPI document: it is consistent, and its examples are valid requests."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import StartServer
from tests.http_client import http
from tests.token_client import SECRET, token

from channelstream.api import answers, schemas
from channelstream.api.endpoints import ENDPOINTS as SERVED
from channelstream.api.openapi import REFUSALS, document
from channelstream.api.stream_docs import REFUSALS as STREAM_REFUSALS
from channelstream.api.table import Auth, Endpoint
from channelstream.apps.principal import Right


def row(path: str, methods: tuple[str, ...], request: Any, response: Any, **more: Any) -> Endpoint:
    """Make a row of the table whose handler is not called."""
    settings: dict[str, Any] = {"many": False, "summary": path, "description": f"Calls {path}."} | more
    rights = {} if settings.get("auth") is Auth.NONE else {"right": Right.INFO}
    return Endpoint(
        path=path, methods=methods, handler=print, request=request, response=response, **rights, **settings
    )


ENDPOINTS = [
    row("/connect", ("POST",), schemas.ConnectBody, answers.ConnectAnswer),
    row("/subscribe", ("POST",), schemas.SubscribeBody, answers.SubscribeAnswer, query=("conn_id",)),
    row("/unsubscribe", ("POST",), schemas.UnsubscribeBody, answers.UnsubscribeAnswer),
    row("/user_state", ("POST",), schemas.UserStateBody, answers.UserStateAnswer),
    row("/user_status", ("POST",), schemas.UserStatusBody, answers.UserStateAnswer),
    row("/message", ("POST",), schemas.MessageBody, answers.MessageAnswer, many=True),
    row("/message", ("PATCH",), schemas.EditBody, answers.EditAnswer, many=True),
    row("/message", ("DELETE",), schemas.DeleteBody, answers.EditAnswer, many=True),
    row("/channel_config", ("POST",), schemas.ChannelConfigBody, answers.ChannelsInfo),
    row("/info", ("GET", "POST"), schemas.InfoBody, answers.ChannelsInfo),
    row("/disconnect", ("GET", "POST"), schemas.DisconnectBody, bool, auth=Auth.NONE, query=("conn_id",)),
    row("/openapi.json", ("GET",), None, None),
]
METHODS = {"get", "post", "put", "patch", "delete"}
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    """The document as a client gets it."""
    read: dict[str, Any] = json.loads(json.dumps(document(ENDPOINTS, "1.2.3")))
    return read


def inside(node: Any) -> Iterator[dict[str, Any]]:
    """Walk all objects of the document."""
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from inside(part)


def operations(api: dict[str, Any]) -> list[dict[str, Any]]:
    """List all operations of the document."""
    return [operation for path in api["paths"].values() for operation in path.values()]


def resolve(api: dict[str, Any], ref: str) -> Any:
    """Follow a reference within the document."""
    found: Any = api
    for step in ref.removeprefix("#/").split("/"):
        found = found[step]
    return found


def conforms(api: dict[str, Any], value: Any, schema: dict[str, Any]) -> bool:
    """Check a value against the part of JSON Schema that the document uses."""
    if "$ref" in schema:
        return conforms(api, value, resolve(api, schema["$ref"]))
    if "anyOf" in schema:
        return any(conforms(api, value, option) for option in schema["anyOf"])
    if "type" in schema and type(value) not in TYPES[schema["type"]]:
        return False
    if isinstance(value, str):
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(
            conforms(api, item, schema.get("items", {})) for item in value
        )
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        return set(schema.get("required", ())) <= set(value) and all(
            conforms(api, item, properties.get(key, others)) for key, item in value.items()
        )
    return value is None or schema.get("minimum", value) <= value <= schema.get("maximum", value)


def test_the_head_is_that_of_openapi_3_1(api: dict[str, Any]) -> None:
    """Version, title and the fields that OpenAPI requires are there."""
    assert re.fullmatch(r"3\.1\.\d+", api["openapi"])
    assert (api["info"]["title"], api["info"]["version"]) == ("Channelstream API", "1.2.3")
    assert set(api) <= {"openapi", "info", "servers", "security", "paths", "components", "tags"}


def test_every_reference_resolves(api: dict[str, Any]) -> None:
    """No reference leads out of the document or into nothing."""
    refs = [node["$ref"] for node in inside(api) if "$ref" in node]
    assert refs
    assert all(ref.startswith("#/components/") and resolve(api, ref) for ref in refs)


def test_each_row_and_method_is_one_operation(api: dict[str, Any]) -> None:
    """Every method of every row is described once, with an id of its own."""
    named = {(path, method) for path, item in api["paths"].items() for method in item}
    streams = {("/ws", "get"), ("/sse", "get"), ("/listen", "get"), ("/listen", "post"), ("/client", "post")}
    assert named == streams | {(row.path, method.lower()) for row in ENDPOINTS for method in row.methods}
    ids = [operation["operationId"] for operation in operations(api)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in ids)
    assert all(set(item) <= METHODS for item in api["paths"].values())


def test_every_operation_is_described(api: dict[str, Any]) -> None:
    """Each has a summary, a description, and an answer with a description."""
    for operation in operations(api):
        assert operation["summary"]
        assert operation["description"]
        done = {"200", "101"} & set(operation["responses"])
        assert operation["responses"][done.pop()]["description"]


def test_signed_calls_say_so(api: dict[str, Any]) -> None:
    """Calls have one of three credentials in a header, unless the row says otherwise."""
    schemes = api["components"]["securitySchemes"]
    assert (
        api["security"]
        == [{name: []} for name in schemes]
        == [{"signed": []}, {"bearer": []}, {"signature": []}]
    )
    assert [(schemes[name]["type"], schemes[name]["scheme"]) for name in ("signed", "bearer")] == [
        ("http", "CS-HMAC-SHA256"),
        ("http", "bearer"),
    ]
    scheme = schemes["signature"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "x-channelstream-secret")
    assert "security" not in api["paths"]["/connect"]["post"]
    assert api["paths"]["/disconnect"]["post"]["security"] == []


@pytest.mark.parametrize(
    ("path", "method", "statuses"),
    [
        ("/connect", "post", {"400", "401", "403", "413", "415", "422", "429", "503"}),
        ("/info", "get", {"401", "403", "429", "503"}),
        ("/disconnect", "post", {"400", "413", "415", "422", "503"}),
        ("/disconnect", "get", {"422", "503"}),
    ],
)
def test_refusals_are_those_a_call_can_get(
    api: dict[str, Any], path: str, method: str, statuses: set[str]
) -> None:
    """Only signed calls answer 401, 403 and 429, only calls with a body 400, 413 and 422."""
    assert set(api["paths"][path][method]["responses"]) == {"200"} | statuses


def test_what_the_paths_of_streams_refuse_is_described(
    api: dict[str, Any], start_server: StartServer
) -> None:
    """Two of them read a body, and bound it; and one address cannot show wrong tokens for ever."""
    server = start_server(
        "-s", SECRET, "--token-max-age-s=3600", "--max-address-stream-rate=0.01", "--unlimited-addresses="
    )
    right = {"authorization": f"Bearer {token()}"}
    answers_ = [
        http.post(f"{server.url}{path}?conn_id=x", content=b"x" * 1_000_000, headers=right)
        for path in ("/listen", "/client")
    ]
    answers_ += [http.post(f"{server.url}/client") for _ in range(2)]
    seen = [(each.url.path, each.status_code) for each in answers_]
    assert seen == [("/listen", 413), ("/client", 413), ("/client", 401), ("/client", 429)]
    assert all(str(status) in api["paths"][path]["post"]["responses"] for path, status in seen)


def test_refusals_are_described_once(api: dict[str, Any]) -> None:
    """Every refusal stands in the components and operations refer to it."""
    names = {name for name, _ in REFUSALS.values()} | set(STREAM_REFUSALS)
    assert set(api["components"]["responses"]) == names
    assert api["paths"]["/connect"]["post"]["responses"]["422"] == {"$ref": "#/components/responses/Invalid"}


def test_one_or_many_is_said_of_both_sides(api: dict[str, Any]) -> None:
    """Where a list is accepted, body and answer are described as one object or a list of them."""
    operation = api["paths"]["/message"]["post"]
    for side, name in (
        (operation["requestBody"], "MessageBody"),
        (operation["responses"]["200"], "MessageAnswer"),
    ):
        ref = {"$ref": f"#/components/schemas/{name}"}
        assert side["content"]["application/json"]["schema"] == {
            "oneOf": [ref, {"type": "array", "items": ref}]
        }


def test_a_get_has_no_body_and_queries_are_named(api: dict[str, Any]) -> None:
    """GET reads the query alone; each query parameter is described."""
    operation = api["paths"]["/disconnect"]["get"]
    assert "requestBody" not in operation
    (parameter,) = operation["parameters"]
    assert (parameter["name"], parameter["in"], parameter["schema"]) == (
        "conn_id",
        "query",
        {"type": "string"},
    )


def test_a_call_without_a_body_has_the_connection_that_the_example_of_connect_makes(
    api: dict[str, Any],
) -> None:
    """So the explorer sends what it shows. With a body only that names it: an id in the query would win."""
    (made,) = api["components"]["schemas"]["ConnectBody"]["properties"]["conn_id"]["examples"]
    named = [
        (operation, parameter.get("example"))
        for operation in operations(api)
        for parameter in operation["parameters"]
        if parameter["name"] == "conn_id"
    ]
    assert {example for operation, example in named if "requestBody" not in operation} == {made}
    assert [example for operation, example in named if operation["operationId"] == "post_subscribe"] == [None]


def test_a_row_alone_is_described() -> None:
    """A parameter of its query needs no example, and one of its path may have slashes."""
    files = row("/files/{name:path}", ("GET",), None, None, query=("part",))
    [(path, described)] = (
        (path, each) for path, each in document([files], "1.2.3")["paths"].items() if "files" in path
    )
    assert path == "/files/{name}"
    named = [(each["name"], each["in"], each.get("example")) for each in described["get"]["parameters"]]
    assert named == [("name", "path", None), ("part", "query", None)]


def test_a_body_is_required_unless_get_makes_the_call_as_well(api: dict[str, Any]) -> None:
    """So a generated client passes no body to these alone."""
    bodies = {
        row.path: api["paths"][row.path]["post"].get("requestBody")
        for row in ENDPOINTS
        if "POST" in row.methods
    }
    optional = {path for path, body in bodies.items() if not body["required"]}
    assert optional == {"/info", "/disconnect"}


def test_every_schema_is_an_object(api: dict[str, Any]) -> None:
    """None is `true` or `false`, which generators of clients refuse; `additionalProperties` may be."""
    assert not [node for node in inside(api) if isinstance(node.get("items"), bool)]
    (pairs,) = [node for node in inside(api) if "prefixItems" in node]
    assert pairs["minItems"] == pairs["maxItems"] == len(pairs["prefixItems"]) == 2


def test_a_call_without_schemas_is_described(api: dict[str, Any]) -> None:
    """A row with neither request nor answer schema has an operation without content."""
    assert api["paths"]["/openapi.json"]["get"]["responses"]["200"] == {"description": "Done."}


def test_every_schema_is_described(api: dict[str, Any]) -> None:
    """Each schema, and each field of a request, has a sentence."""
    components = api["components"]["schemas"]
    assert all(schema["description"] for schema in components.values())
    for name in [name for name in components if name.endswith(("Body", "Options", "Settings"))]:
        for field, schema in components[name]["properties"].items():
            assert "description" in schema or "$ref" in schema, f"{name}.{field}"


def test_examples_and_defaults_are_good(api: dict[str, Any]) -> None:
    """Every example and every default keeps to the schema that shows it."""
    shown = [
        (value, node)
        for node in inside(api)
        for value in [*node.get("examples", ()), *([node["default"]] if "default" in node else ())]
    ]
    assert len(shown) > 20
    assert [(value, node) for value, node in shown if not conforms(api, value, node)] == []


def test_offered_messages_can_be_sent_again() -> None:
    """The body that the explorer offers keeps to its schema, and has no uuid of a sent message and no time."""
    served = json.loads(json.dumps(document(SERVED, "1.2.3")))
    for method, given in (
        ("post", {"user", "channel", "message"}),
        ("patch", {"uuid", "channel", "message"}),
    ):
        media = served["paths"]["/message"][method]["requestBody"]["content"]["application/json"]
        assert media["example"].keys() == given
        assert conforms(served, media["example"], media["schema"]["oneOf"][0])
    assert {"uuid", "timestamp"} <= served["components"]["schemas"]["MessageBody"]["properties"].keys()


def test_descriptions_are_not_indented(api: dict[str, Any]) -> None:
    """No paragraph of a schema's text looks like code to Markdown."""
    texts = [schema.get("description", "") for schema in api["components"]["schemas"].values()]
    assert any("\n" in text for text in texts)
    assert not [text for text in texts if "\n    " in text]
