"""The measures, each in a module of its own with the same shape: ``MEASURE``, whose ``run`` hands back rows."""
