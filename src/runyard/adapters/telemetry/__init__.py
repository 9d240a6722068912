"""The port of logs over files."""
