"""HTTP/1.1 on accepted sockets: bounded heads, one request at a time, answers, and sockets that streams take over.

It does not depend on what is served: a router returns the function that takes a socket over, and an ASGI application
answers all other requests.
"""
