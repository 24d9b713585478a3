"""`topics.py PORT`, for an interpreter with socketify: a message to /publish is sent to every client of /ws."""

import sys
from typing import Any

from socketify import App, AppListenOptions, CompressOptions, OpCode

BACKPRESSURE_BYTES = 16 << 20
"""More than the undelivered bytes of a run: the default would drop messages silently."""


def main() -> None:
    app = App()

    async def publish(response: Any, request: Any) -> None:
        body = await response.get_data()
        app.publish("bench", body.getvalue(), OpCode.TEXT)
        response.end("ok")

    app.ws(
        "/ws",
        {
            "compression": CompressOptions.DISABLED,
            "max_backpressure": BACKPRESSURE_BYTES,
            "idle_timeout": 960,
            "open": lambda ws: ws.subscribe("bench"),
        },
    )
    app.post("/publish", publish)
    app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"), lambda _: None)
    app.run()


if __name__ == "__main__":
    main()
