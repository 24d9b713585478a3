"""The admin pages, their data and their actions. They read a running node and are never on the path of an event."""
