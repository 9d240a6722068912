"""What server and node say to each other: plain frozen records as JSON lines. See ``docs/rooms/wire.md``."""
