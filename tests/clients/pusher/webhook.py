"""Verifies a webhook with Pusher's Python SDK: reads it as JSON, and prints what it reports; null if it is not valid."""

import json
import sys

import pusher

given = json.load(sys.stdin)
client = pusher.Pusher(app_id="4711", key="kit-key", secret=given["secret"])
key, signature = (given["headers"][f"x-pusher-{name}"] for name in ("key", "signature"))
found = client.validate_webhook(key, signature, given["rawBody"])
print(json.dumps(found and {"events": found["events"], "time": found["time_ms"]}))
