"""Real things that tests start and stop: servers on loopback, in temporary folders, ended by their process id."""
