"""Fuzzing of what reads bytes of strangers, guided by coverage (atheris, libFuzzer)."""
