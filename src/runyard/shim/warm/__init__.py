"""The warm parent: an interpreter with its imports done, of which programs are forked."""
