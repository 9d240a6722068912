"""Settings of the property tests: an example is wrong or right, never late, for the machine may be busy."""

from hypothesis import settings

settings.register_profile("core", deadline=None)
settings.load_profile("core")
