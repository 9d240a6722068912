"""The disk of the server: how much room it has, and what takes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Space:
    """A disk: bytes that may still be written, and all of them."""

    free: int
    total: int


PLENTY = Space(1 << 60, 1 << 60)


@dataclass(frozen=True, slots=True)
class Taken:
    """What something takes. ``kind``: logs, metrics, results, data, definitions or database. ``account``: empty where
    it is the installation's, or only the run knows; ``run``: empty where it is no run's."""

    kind: str
    size: int
    account: str = ""
    run: str = ""


class Disk(Protocol):
    """The server's folders."""

    def space(self) -> Space:
        """Room on the disk now; costs microseconds."""
        ...

    def of_run(self, run_id: str) -> Mapping[str, int]:
        """Bytes on the disk of a run's logs and metrics, by these words."""
        ...

    def taken(self) -> Iterator[Taken]:
        """Everything, read from the folders themselves: minutes where there are millions of files."""
        ...


class Boundless:
    """A disk that is never full and on which nothing lies."""

    def space(self) -> Space:
        """Plenty."""
        return PLENTY

    def of_run(self, run_id: str) -> Mapping[str, int]:  # noqa: ARG002  # the port's
        """Nothing."""
        return {}

    def taken(self) -> Iterator[Taken]:
        """Nothing."""
        return iter(())
