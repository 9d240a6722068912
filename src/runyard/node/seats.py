"""Who is who among the learners of a run: which slots, which ranks, and the port at which they find each other."""

from __future__ import annotations

import errno
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from runyard.node.inventory import Inventory
from runyard.wire.orders import Launch

LOWEST, HIGHEST = 20_000, 65_535
"""Ports that are tried: below are those of known services."""
ENOUGH = 500
RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
RANGE_S = 10.0
"""What it says is believed for so long."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One learner's place. ``devices``: its ``CUDA_VISIBLE_DEVICES``; ``closed``: nodes of devices that it lacks;
    ``gpus``: how many devices, or logical slots, it has; ``processes`` of it have the ranks from ``first_rank`` on, of
    ``world_size`` in all."""

    learner: int
    learners: int
    devices: str
    gpus: int
    processes: int
    first_rank: int
    world_size: int
    closed: tuple[str, ...] = ()


def seats(order: Launch, inventory: Inventory) -> list[Seat]:
    """The places of a run's learners: equal shares of the slots, in order; a process for each learner, or with
    ``launch: gpu`` for each of its GPUs (at least one)."""
    share = len(order.slots) // order.learners
    devices: list[str] = []
    closed: list[tuple[str, ...]] = []
    gpus: list[int] = []
    for index in range(order.learners):
        slots = order.slots[index * share : (index + 1) * share]
        devices.append(inventory.visible_devices(slots))
        closed.append(tuple(inventory.closed_nodes(slots)))
        gpus.append(len(devices[-1].split(",")) if devices[-1] else len(slots))
    processes = [max(1, count) if order.launch == "gpu" else 1 for count in gpus]
    return [
        Seat(
            index + 1,
            order.learners,
            devices[index],
            gpus[index],
            processes[index],
            sum(processes[:index]),
            sum(processes),
            closed[index],
        )
        for index in range(order.learners)
    ]


# ------------------------------------------------------------------------------------------------------ MASTER_PORT


@dataclass(frozen=True, slots=True)
class Port:
    """A port that no other run on this machine is given for as long as ``holder`` is open in any process."""

    number: int
    holder: socket.socket


def hold_port(ports: Sequence[range] = ()) -> Port:
    """A free TCP port for ``MASTER_PORT``, held until the program binds it, and after. Raises ``OSError``.

    It lies outside the range from which the kernel takes ports by itself (ip(7), ``ip_local_port_range``), so that
    only a program which names this very number could take it. Runs of this machine, of whatever node and user, are kept
    apart by a socket whose abstract name (unix(7)) has the number: whoever could bind it has the port. That socket is
    inherited by the shims, so that it is held when the node dies, and let go with the last of them.
    """
    ranges = ports or candidates()
    count = sum(map(len, ranges))
    begin = secrets.randbelow(count)
    for number in (_at(ranges, (begin + step) % count) for step in range(count)):
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0runyard-port-{number}")
            if is_free(number):
                return Port(number, holder)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                holder.close()
                raise
        holder.close()
    raise OSError(errno.EADDRINUSE, "no TCP port is free")


def _at(ranges: Sequence[range], index: int) -> int:
    """The number at a place in several ranges, one behind the other."""
    for each in ranges:
        if index < len(each):
            return each[index]
        index -= len(each)
    raise IndexError(index)


@lru_cache(maxsize=1)
def _candidates(_moment: int) -> list[range]:
    """As the kernel says at a moment; an operator changes it once in a machine's life."""
    with open(RANGE_FILE, encoding="ascii") as file:
        return candidates(file.read())


def candidates(text: str | None = None) -> list[range]:
    """The ports to choose from, all of them only where the kernel's own range leaves too few."""
    if text is None:
        return _candidates(int(time.monotonic() / RANGE_S))
    low, high = (int(word) for word in text.split())
    found = [range(LOWEST, min(low, HIGHEST + 1)), range(max(high + 1, LOWEST), HIGHEST + 1)]
    return found if sum(map(len, found)) >= ENOUGH else [range(LOWEST, HIGHEST + 1)]


def is_free(number: int) -> bool:
    """Whether a program could bind a TCP port on every address now, even one that shares it with nothing that lingers
    there."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False  # anything else: there is no such family here
    return True
