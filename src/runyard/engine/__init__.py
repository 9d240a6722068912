"""The stations of a run, one file each: load by a port, decide by a pure function, apply in one guarded transaction."""
