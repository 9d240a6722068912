"""The command line: ``runyard`` and, in the words of the older service, ``ml``."""
