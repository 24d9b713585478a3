"""What connects the server with other systems. Each package consumes the signals of the node; nothing depends on it."""
