"""What the admin pages show and do: read from a running node, never on the way of an event."""
