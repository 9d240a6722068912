"""One machine's installation: start it, keep it alive, stop it, examine it."""
