"""Values, rules and decisions of Runyard. Pure: no I/O, no clock, no randomness, no framework."""
