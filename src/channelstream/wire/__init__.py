"""The wire: what each protocol sends, and how WebSocket frames are read. Pure, as `core` is.

`channelstream.py` has both older generations of this server's own protocol, `commanding.py` that of clients with tokens,
and `pusher.py` that of Pusher. A further protocol is a module here, with rows of its own in the table of `protocols.py`.
"""
