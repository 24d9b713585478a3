"""How a browser holds a stream: WebSocket, server-sent events and long poll over one Session.

Imports `core`, `engines` (types) and `node`; never `api`.
"""
