"""HTTP/1.1 on accepted sockets: bounded heads, one request at a time, answers, and sockets that streams take over.

It does not depend on what is served: that is in the routes of a router, each with handlers or with what takes a socket
over.
"""
