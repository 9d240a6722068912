"""The recorder: ``runyard.log``, one file on the standard library alone that training programs carry along.

The file itself is ``path/runyard.py``, so that an environment without this distribution can have ``import runyard`` by
one entry in its ``PYTHONPATH``.
"""

from runyard.recorder.path.runyard import log

__all__ = ["log"]
