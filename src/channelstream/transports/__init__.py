"""The transports: WebSocket, server-sent events and long poll, all with one `Attachment`.

Never imports `api` or `engines`.
"""
