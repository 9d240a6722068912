"""What programs run with: the node's own interpreter, environments built once and kept, and those of others."""
