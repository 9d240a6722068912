"""Ranks, shares of slots, and a port that nobody else is given."""

import socket
from typing import Any

import pytest

from runyard.node.inventory import Device, Inventory
from runyard.node.seats import candidates, hold_port, is_free, seats
from runyard.wire.orders import Launch, Place, Stage

FAKE = Inventory(("gpu",) * 4, True, 4000, 4000, devices=tuple(Device(index, "gpu") for index in range(4)))
LOGICAL = Inventory(("logical slot",) * 4, True, 4000, 4000)
SHARED = Inventory(("gpu",) * 8, False, 4000, 4000, devices=FAKE.devices, slots_per_gpu=2)


def order(learners: int, *slots: int, **more: Any) -> Launch:
    return Launch(
        "training-abcdefghi", 1, "n", "c", Stage(1), Place("local", "b"), learners=learners, slots=slots, **more
    )


@pytest.mark.parametrize(
    ("machine", "ordered", "expected"),
    [
        (FAKE, order(1, 2), [("2", 1, 1, 0, 1)]),
        (FAKE, order(2, 0, 1, 2, 3), [("0,1", 2, 1, 0, 2), ("2,3", 2, 1, 1, 2)]),
        (FAKE, order(2, 0, 1, 2, 3, launch="gpu"), [("0,1", 2, 2, 0, 4), ("2,3", 2, 2, 2, 4)]),
        (LOGICAL, order(2, 0, 1, 2, 3, launch="gpu"), [("", 2, 2, 0, 4), ("", 2, 2, 2, 4)]),
        (FAKE, order(2, launch="gpu"), [("", 0, 1, 0, 2), ("", 0, 1, 1, 2)]),
        (SHARED, order(2, 0, 1, 3, 4, launch="gpu"), [("0", 1, 1, 0, 3), ("1,2", 2, 2, 1, 3)]),
    ],
)
def test_learners_have_equal_shares_and_every_process_a_rank(
    machine: Inventory, ordered: Launch, expected: list[tuple[str, int, int, int, int]]
) -> None:
    found = seats(ordered, machine)
    assert [(s.devices, s.gpus, s.processes, s.first_rank, s.world_size) for s in found] == expected
    assert [(s.learner, s.learners) for s in found] == [(n + 1, len(expected)) for n in range(len(expected))]


def test_ports_are_chosen_outside_the_kernels_own_range() -> None:
    assert candidates("32768 60999") == [range(20_000, 32_768), range(61_000, 65_536)]
    assert candidates("1024 65535") == [range(20_000, 65_536)]
    assert sum(map(len, candidates("20000 61000"))) == 4535


def test_a_port_is_given_once_for_as_long_as_it_is_held() -> None:
    first = hold_port()
    number = first.number
    with pytest.raises(OSError, match="no TCP port is free"):
        hold_port([range(number, number + 1)])
    inherited = first.holder.dup()
    first.holder.close()
    with pytest.raises(OSError, match="no TCP port is free"):
        hold_port([range(number, number + 1)])
    inherited.close()
    with hold_port([range(number, number + 1)]).holder:
        pass


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_that_somebody_listens_at_is_not_given(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            busy.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no such addresses")
        busy.listen()
        number = busy.getsockname()[1]
        assert not is_free(number)
        with pytest.raises(OSError, match="no TCP port is free"):
            hold_port([range(number, number + 1)])
