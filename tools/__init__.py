"""What stands behind the two commands at the root, quickstart.py and check.py: the standard library alone."""
