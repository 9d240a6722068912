"""What the engine asks of the world: one Protocol a file, with the values that cross it."""
