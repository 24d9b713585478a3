"""Nchan, a module of nginx: one worker, one channel that keeps as many messages as channelstream's log does by default."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from channelstream.bench.measure import Target
from channelstream.bench.peers.peer import HOST, Peer, free_port, need_program, open_post, serving
from channelstream.bench.wire import Wire

_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_HELP = "install it with `apt-get install nginx libnginx-mod-nchan`"
_CONFIG = """
load_module %(module)s;
daemon off;
worker_processes 1;
pid %(folder)s/nginx.pid;
error_log stderr error;
events { worker_connections 32768; }
http {
  access_log off;
  client_body_temp_path %(folder)s/body;
  proxy_temp_path %(folder)s/proxy;
  fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi;
  scgi_temp_path %(folder)s/scgi;
  keepalive_requests 1000000;
  server {
    listen %(host)s:%(port)d backlog=4096;
    nchan_channel_id bench;
    nchan_message_buffer_length 500;
    location = /publish { nchan_publisher http; }
    location = /ws { nchan_subscriber websocket; nchan_subscriber_first_message newest; }
  }
}
"""


@asynccontextmanager
async def _serve() -> AsyncIterator[Target]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_CONFIG % {"module": _MODULE, "folder": folder, "host": HOST, "port": port})
        command = ("nginx", "-p", folder, "-e", "stderr", "-c", config)
        async with serving("Nchan", command, Wire(host=HOST, port=port), open_post) as target:
            yield target


def _missing() -> str:
    return need_program("nginx", _HELP) or ("" if _MODULE.exists() else _HELP)


PEER = Peer("Nchan", _missing, _serve)
