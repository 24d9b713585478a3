"""The JavaScript client in node, against a real server."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

CLIENT = Path(__file__).parents[2] / "clients" / "js" / "channelstream.js"
PROGRAM = """
const [client, url, conn_id, transport] = process.argv.slice(1);
const { Channelstream } = await import(client);
const stream = new Channelstream({ url, connection: { conn_id }, transports: [transport] });
stream.on("open", () => console.log(JSON.stringify({ type: "open" })));
for await (const event of stream) {
  console.log(JSON.stringify(event));
  if (event.message?.last) stream.close();
}
"""


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
def test_a_message_is_heard(server: Any, transport: str) -> None:
    """By iteration, on each transport, until the application closes the stream, which ends the connection."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("No node on the PATH.")
    if transport == "websocket" and subprocess.run([node, "-e", "WebSocket"], capture_output=True).returncode:
        pytest.skip("This node has no WebSocket of its own (22 has).")
    channel = uuid4().hex
    conn_id = server.connect("js", channel)
    command = [node, "--input-type=module", "-e", PROGRAM, str(CLIENT), server.url, conn_id, transport]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        assert json.loads(listening.stdout.readline()) == {"type": "open"}
        server.post("/message", [{"user": "app", "channel": channel, "message": {"last": True}}])
        heard = [json.loads(line) for line in listening.stdout]
    assert [event["type"] for event in heard] == ["resumed", "message"]
    assert heard[1]["message"] == {"last": True}
    assert listening.returncode == 0
