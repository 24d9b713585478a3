"""Data and actions of the admin pages. They read a running node and are never on the path of an event."""
