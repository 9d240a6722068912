"""The world: one folder a thing, each an implementation of a port, none knowing another."""
