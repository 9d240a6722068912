"""Warm starts: whose programs are forked by a parent that has the framework imported, and the life of such parents."""
