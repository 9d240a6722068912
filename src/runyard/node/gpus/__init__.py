"""The machine's GPUs while the node runs: who holds their memory, whether they report errors."""
