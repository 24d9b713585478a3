"""HTTP/1.1 on accepted sockets: bounded heads, one request at a time, answers, and sockets that others take over.

Nothing here knows what is served: a router says who takes a socket over, an ASGI application answers all else.
"""
