"""The chat demo: an application like any other, which speaks HTTP to the server and imports nothing of it."""
