"""A cluster that exists in arithmetic only, with the real plan: what a policy does to waits, use and shares."""
