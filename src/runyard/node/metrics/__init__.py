"""Metrics of the programs that run here: found in four ways, kept in a spool beside each, brought to the server."""
