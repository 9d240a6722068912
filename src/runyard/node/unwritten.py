"""The ends of learners whose programs never began, on the disk as soon as that has room for them."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from runyard.node.became import Early, end_without_program, record_without_program, write_record
from runyard.node.home import PASSABLE, AttemptFolder, Key, Record, make_folder, say
from runyard.node.lanes import Crew, Lanes, Later

AGAIN_S = 0.5
"""After this a record is tried again for which the disk had no room."""


class Unwritten:
    """Exit records that the disk did not take yet. They hold as those on it do: the server is told of such an end at
    once, and an order for the same attempt that comes when there is room again must not begin what is over.

    The next node knows nothing of them: either the server has been told, and orders that attempt no more, or it has
    not, and nobody has taken it for ended."""

    def __init__(self, lanes: Lanes, crew: Crew, later: Later) -> None:
        self._lanes = lanes
        self._crew = crew
        self._later = later
        self._lock = threading.Lock()
        self._records: dict[Key, Record] = {}

    def records(self) -> Mapping[Key, Record]:
        """Those that there are now."""
        with self._lock:
            return dict(self._records)

    def put_down(self, folder: AttemptFolder, why: Early) -> Record:
        """The exit record of a learner that never began."""
        known = self.records().get(folder.key)
        if known is not None:
            return known
        try:
            make_folder(folder.path, PASSABLE)
            return end_without_program(folder, why)
        except OSError as trouble:  # the disk is full, most likely
            say(f"The end of {folder.name} could not be written down yet: {trouble}")
            record = record_without_program(folder, why)
            with self._lock:
                self._records[folder.key] = record
            self._write_later(folder)
            return record

    def forget(self, run: str) -> None:
        """A run's folders are gone."""
        with self._lock:
            self._records = {key: record for key, record in self._records.items() if key[0] != run}

    def _write_later(self, folder: AttemptFolder) -> None:
        self._later.put(AGAIN_S, lambda: self._lanes.put(folder.run, self._crew, lambda: self._write(folder)))

    def _write(self, folder: AttemptFolder) -> None:
        record = self.records().get(folder.key)
        if record is None:
            return
        try:
            make_folder(folder.path, PASSABLE)
            write_record(folder, record)
        except OSError:
            self._write_later(folder)
            return
        with self._lock:
            self._records.pop(folder.key, None)
