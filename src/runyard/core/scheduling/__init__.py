"""Scheduling: a snapshot in, a plan out. Every "no" carries its reason."""
