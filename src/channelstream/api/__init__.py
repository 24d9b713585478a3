"""The signed REST API: one table of endpoints, their schemas, and who may call them. Never imports `transports`."""
