"""Measurements against a yardstick taken in the same run; README.md says how to start them."""
