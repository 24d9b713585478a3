"""The REST API of Pusher's protocol: what its server SDKs call below `/apps/ID`."""
