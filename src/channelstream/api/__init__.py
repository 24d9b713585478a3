"""The signed REST API: the table of endpoints, their schemas, and access control. Never imports `transports`."""
