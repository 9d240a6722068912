"""REST and server-sent events: one thin router a noun, over the engine."""
