"""Containers on this machine: the engine, its images, and what a learner's container is made of."""
