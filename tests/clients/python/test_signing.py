"""How the Python client signs, and finds out which form a server knows."""

import json
import logging
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from channelstream_client import BadSignature, Channelstream, Forbidden, Refused, Retries, calls
from channelstream_client.exchange import Answer, Caller, Outcome, Pause, Request
from channelstream_client.signing import SCHEME, Signer, Signing, digest_of, sign

VECTORS = json.loads((Path(__file__).parents[3] / "spec/vectors/signing.json").read_text("utf-8"))
DONE = Answer(200, b"true")
GOOD = Answer(200, b'{"user_state": {}, "changed_state": [], "public_keys": []}')
OLD_SERVER = Answer(403, b'{"error": "The request is not signed"}')
REFUSED = Answer(401, b"{}", challenge=f"Basic, {SCHEME}")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_signatures_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    """The same as those of the server."""
    signed = (vector["method"], vector["target"], vector["ts"], vector["nonce"], vector["body"].encode())
    assert sign(vector["key"], vector["secret"], *signed) == vector["authorization"]
    assert digest_of(vector["body"].encode()) == vector["digest"]


def a_signer(signing: Signing = "auto", key_id: str = "") -> Signer:
    """Return a signer of a fixed time, whose nonces are all different."""
    numbers = count()
    return Signer("s", key_id, signing, lambda: 1_800_000_000.5, lambda: f"{next(numbers):016}")


def forms_of(signer: Signer, plan: Any, *answers: Outcome) -> str:
    """Carry out a call, and return the forms of the requests that were sent: `s`igned and `o`ld; `!` is a refusal."""
    sent, outcomes = "", iter(answers)
    steps = Caller(signer, Retries(attempts=2), lambda: 0.0).carry_out(plan)
    outcome: Outcome = None
    try:
        while True:
            step = steps.send(outcome)
            if isinstance(step, Pause):
                outcome = None
                continue
            assert isinstance(step, Request)
            sent += "s" if "authorization" in step.headers else "o"
            assert len({"authorization", "x-channelstream-secret"} & set(step.headers)) == 1
            outcome = next(outcomes)
    except StopIteration:
        return sent
    except Refused:
        return sent + "!"


def asked() -> Any:
    return calls.user_state("ann", {})


def test_a_server_that_knows_the_new_form_is_asked_once() -> None:
    """And keeps it for good, whatever an answer says later."""
    signer = a_signer()
    assert forms_of(signer, asked(), GOOD) == "s"
    assert forms_of(signer, asked(), OLD_SERVER) == "s!"
    assert forms_of(signer, asked(), Answer(401, b"{}")) == "s!"
    assert signer.form == "signed"


def test_an_older_server_is_asked_again_in_the_old_form(caplog: pytest.LogCaptureFixture) -> None:
    """Once; a warning says so, and the next call begins with it."""
    signer = a_signer()
    with caplog.at_level(logging.WARNING, "channelstream_client"):
        assert forms_of(signer, asked(), OLD_SERVER, GOOD) == "so"
        assert forms_of(signer, asked(), GOOD) == "o"
    assert [record.getMessage()[:30] for record in caplog.records] == ["the server does not know signa"]


def test_a_refusal_by_a_server_that_knows_the_new_form_is_final() -> None:
    """A wrong secret is no reason to send a weaker signature."""
    signer = a_signer()
    assert forms_of(signer, asked(), REFUSED) == "s!"
    assert signer.form is None


def test_two_refusals_prove_nothing() -> None:
    """A proxy that forbids both may be mended, and the server asked as before."""
    signer = a_signer()
    assert forms_of(signer, asked(), OLD_SERVER, OLD_SERVER) == "so!"
    assert forms_of(signer, asked(), GOOD) == "s"


def test_a_server_that_refuses_the_old_form_is_asked_in_the_new_one() -> None:
    """It was replaced, or its option changed, while this client lived."""
    signer = a_signer()
    forms_of(signer, asked(), OLD_SERVER, GOOD)
    assert forms_of(signer, asked(), Answer(403, b"{}", challenge=SCHEME), GOOD) == "os"
    assert signer.form == "signed"


def test_no_other_answer_changes_the_form() -> None:
    """Neither a server that is away, nor a wrong body."""
    signer = a_signer()
    assert forms_of(signer, asked(), Answer(503, b"{}"), Answer(503, b"{}")) == "ss!"
    assert forms_of(signer, asked(), Answer(422, b"{}")) == "s!"
    assert signer.form is None


def test_the_call_without_credentials_tells_nothing() -> None:
    """Every server answers it."""
    signer = a_signer()
    assert forms_of(signer, calls.disconnect("c"), DONE) == "s"
    assert forms_of(signer, calls.disconnect("c"), OLD_SERVER) == "s!"
    assert signer.form is None


@pytest.mark.parametrize(
    ("signing", "key_id", "form"), [("signed", "", "s"), ("old", "", "o"), ("auto", "web", "s")]
)
def test_a_form_that_is_chosen_stays(signing: Signing, key_id: str, form: str) -> None:
    """A key with an id has no other form."""
    signer = a_signer(signing, key_id)
    for answer in (OLD_SERVER, REFUSED):
        assert forms_of(signer, asked(), answer) == form + "!"


@pytest.mark.parametrize(("signing", "key_id"), [("new", ""), ("old", "web")])
def test_a_wrong_choice_is_refused(signing: Any, key_id: str) -> None:
    """A word that is none, and a key that the old form cannot name."""
    with pytest.raises(ValueError, match=r"signing|old signature"):
        a_signer(signing, key_id)


def test_each_attempt_has_its_own_nonce() -> None:
    """The server accepts each once."""
    signer = a_signer()
    steps = Caller(signer, Retries(attempts=2), lambda: 0.0).carry_out(asked())
    first = next(steps)
    assert isinstance(steps.send(Answer(503, b"{}")), Pause)
    second = steps.send(None)
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.headers["authorization"] != second.headers["authorization"]


@pytest.mark.parametrize(
    ("accepted", "works"),
    [("any", ("auto", "signed", "old")), ("signed", ("auto", "signed")), ("old", ("auto", "old"))],
)
def test_a_real_server_is_asked_as_it_wants(
    start_server: Callable[..., Any], accepted: str, works: Iterable[Signing]
) -> None:
    """A server that takes old signatures only answers like one that knows no others."""
    server = start_server("--request-signing", accepted)
    for signing in ("auto", "signed", "old"):
        with Channelstream(server.url, server.secret, signing=signing) as client:
            if signing in works:
                assert client.info().channels == {}
            else:
                with pytest.raises(Forbidden):
                    client.info()
    with Channelstream(server.url, "another secret") as client, pytest.raises(BadSignature):
        client.info()


def test_a_key_of_the_file_signs(start_server: Callable[..., Any], tmp_path: Path) -> None:
    """With its rights."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{"id": "web", "secret": "x" * 32, "rights": ["info"]}]}))
    path.chmod(0o600)
    server = start_server("--keys-file", str(path))
    with Channelstream(server.url, "x" * 32, key_id="web") as client:
        assert client.info().channels == {}
        with pytest.raises(Forbidden):
            client.user_state("ann", {})
