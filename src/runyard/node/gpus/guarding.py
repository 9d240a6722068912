"""GPUs are kept back from runs while strangers hold their memory, and from a hardware error on until they are put back.

The driver tells errors by events (one thread waits for them), but not that memory is taken or free: that is looked at
when the node starts, when a run is made ready, right before each start, and every few seconds while a GPU is kept back
for it. Nothing is asked while nothing waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from runyard.core import gpus as judging
from runyard.core.gpus import Sight
from runyard.node.became import boot_id, now_ms
from runyard.node.gpus.seeing import ERRORS, Gpus, Unseen, Xid, knows_pids, told_apart
from runyard.node.home import AttemptFolder, Home, read_record, say, write_whole
from runyard.node.inventory import Device, Inventory
from runyard.node.lanes import do_safely
from runyard.wire.facts import Fact, GpuError, GpuState, ShutGpu

LOOK_EVERY_S: Final = 5.0
SETTLE_S: Final = 2.0
"""For so long what a killed program held may still be on its way back."""
SETTLE_STEP_S: Final = 0.1
WAIT_S: Final = 3600.0


class GpuTaken(Exception):
    """A GPU is not given to a run now; the words say why."""


@dataclass(frozen=True, slots=True)
class Caution:
    """What the operator says. ``slack``: bytes of a GPU that strangers may hold, 0: whatever they hold; ``errors``: a
    GPU that reports a hardware error is kept back."""

    slack: int
    errors: bool


CAREFREE: Final = Caution(0, False)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the guard works with. ``node``: its name; ``living``: the attempts whose programs run, and their slots;
    ``tell``: sends a fact."""

    home: Home
    node: str
    inventory: Inventory
    living: Callable[[], Sequence[tuple[AttemptFolder, tuple[int, ...]]]]
    tell: Callable[[Fact], None]


class Guarding:
    """Which GPUs are kept back, and why."""

    def __init__(
        self, gpus: Gpus | None, caution: Caution, around: Surroundings, every_s: float = LOOK_EVERY_S
    ) -> None:
        self._gpus = gpus
        self._caution = caution
        self._around = around
        self._every_s = every_s
        self._path = f"{around.home.root}/{ERRORS}"
        self._deciding = threading.Lock()
        self._held: dict[int, str] = {}
        """Sentences, by the numbers of the devices whose memory strangers hold."""
        self._bad: dict[int, str] = {}
        """The same of those that have reported an error."""
        self._asked = threading.Event()
        self._pids_known = knows_pids()

    def start(self) -> None:
        """Look now, and then whenever there is a reason to."""
        if self._gpus is None or not (self._caution.slack or self._caution.errors):
            return
        self._recall()
        do_safely(self.look)
        threading.Thread(target=self._look_for_ever, name="gpu-memory", daemon=True).start()
        if self._caution.errors:
            threading.Thread(target=self._hear_for_ever, args=(self._gpus,), name="gpu-errors", daemon=True).start()

    # -------------------------------------------------------------------------------------------------- from outside

    @property
    def shut(self) -> tuple[ShutGpu, ...]:
        """What is kept back now."""
        held, bad = self._held, self._bad
        return tuple(
            ShutGpu(self._slots(device.index), bad.get(device.index) or held[device.index], device.index in bad)
            for device in self._around.inventory.devices
            if device.index in bad or device.index in held
        )

    def look_soon(self) -> None:
        """A run is about to want a GPU."""
        self._asked.set()

    def check(self, slots: Sequence[int]) -> None:
        """Look at the GPUs behind some slots, on which a program is to be started now. Raises :class:`GpuTaken`."""
        if self._gpus is None or not (self._caution.slack or self._caution.errors):
            return
        for device in self._around.inventory.devices_of(slots):
            self._look_at(device)
            why = self._bad.get(device.index) or self._held.get(device.index)
            if why is not None:
                raise GpuTaken(why)

    def put_back(self) -> None:
        """Somebody has looked at the GPUs that reported errors. One whose counters still speak against it stays out."""
        with self._deciding:
            self._bad = {}
            self._keep()
        self.look()
        self._tell()

    def busy(self, slots: Sequence[int], others: Sequence[int]) -> int | None:
        """Per cent of the time in which the busiest of the GPUs behind some slots computed of late; None where nobody
        knows, or where all of them are behind slots of ``others``, too."""
        inventory = self._around.inventory
        shared = inventory.devices_of(others)
        sights = [self._seen(each) for each in inventory.devices_of(slots) if each not in shared]
        return max((each.busy for each in sights if each is not None and each.busy is not None), default=None)

    def errors(self) -> Iterator[GpuError]:
        """What was told of attempts that live, to be told again at every connect."""
        for folder, _ in self._around.living():
            found = read_record(folder.gpu_error)
            if found is not None:
                yield GpuError(folder.run, folder.number, str(found["detail"]))

    # ------------------------------------------------------------------------------------------------------- looking

    def look(self) -> None:
        """Look at every GPU once."""
        for device in self._around.inventory.devices:
            self._look_at(device)

    def _look_for_ever(self) -> None:
        while True:
            self._asked.wait(self._every_s if self._held else None)
            self._asked.clear()
            do_safely(self.look)

    def _look_at(self, device: Device) -> None:
        if self._gpus is None or device.index in self._bad:
            return
        try:
            sight = self._gpus.look(device.index)
        except Unseen as error:
            self._found_bad(device, f"does not answer its driver ({error})")
            return
        why = judging.broken(sight)
        if why is not None and self._caution.errors:
            self._found_bad(device, why)
        elif self._caution.slack:
            self._found_held(device, self._strangers(device, sight))

    def _strangers(self, device: Device, sight: Sight) -> str | None:
        """Why a GPU is kept back for what strangers hold of it; None: it is free."""
        if sight.used <= self._caution.slack:
            return None
        deadline = time.monotonic() + (0 if device.index in self._held else SETTLE_S)
        while True:
            living = [(folder.run, slots) for folder, slots in self._around.living()]
            mine = any(device in self._around.inventory.devices_of(slots) for _, slots in living)
            runs = {run for run, _ in living}
            holders = tuple(told_apart(each, runs, pids_known=self._pids_known) for each in sight.holders)
            told = Sight(sight.used, holders)
            found = judging.foreign(told, self._caution.slack, in_use=mine)
            if found is None:
                return None
            if time.monotonic() >= deadline:
                return judging.held_sentence(self._name(device), found)
            time.sleep(SETTLE_STEP_S)
            sight = self._seen(device) or sight

    def _seen(self, device: Device) -> Sight | None:
        try:
            return None if self._gpus is None else self._gpus.look(device.index)
        except Unseen:
            return None

    def _found_held(self, device: Device, why: str | None) -> None:
        with self._deciding:
            before = self._held
            others = {index: each for index, each in before.items() if index != device.index}
            self._held = others if why is None else {**others, device.index: why}
        if (device.index in before) != (why is not None):
            say(why or f"{self._name(device)} is free again.")
        if before != self._held:
            self._tell()
        if self._held.keys() - before.keys():
            self._asked.set()  # from now on it is looked at now and then

    def _found_bad(self, device: Device, why: str) -> None:
        if not self._caution.errors:
            return
        sentence = judging.drained_sentence(self._name(device), self._around.node, why)
        with self._deciding:
            if device.index in self._bad:
                return
            self._bad = {**self._bad, device.index: sentence}
            self._keep()
        say(sentence)
        self._tell()

    # -------------------------------------------------------------------------------------------------------- errors

    def _hear_for_ever(self, gpus: Gpus) -> None:
        while True:
            try:
                xid = gpus.wait(WAIT_S)
            except Unseen as error:
                say(f"Errors of GPUs are not heard of, but looked for at each start: {error}.")
                return
            if xid is not None:
                do_safely(lambda xid=xid: self.heard(xid))

    def heard(self, xid: Xid) -> None:
        """A GPU has reported an error."""
        device = next((each for each in self._around.inventory.devices if each.index == xid.index), None)
        if device is None:
            return
        if xid.number not in judging.HARDWARE:
            say(f"{self._name(device)} {judging.reported(xid.number)}.")
            self._look_at(device)
            return
        why = judging.reported(xid.number)
        for folder, slots in self._around.living():
            if device in self._around.inventory.devices_of(slots):
                self._note(folder, f"{self._name(device)} {why}.")
        self._found_bad(device, why)

    def _note(self, folder: AttemptFolder, detail: str) -> None:
        """Put down that an attempt was on a GPU that failed, before anybody asks why it ended."""
        record = msgspec.json.encode({"at_ms": now_ms(), "detail": detail})
        for each in self._around.home.learners(folder.run, folder.number):
            write_whole(each.gpu_error, record)
        self._around.tell(GpuError(folder.run, folder.number, detail))

    # -------------------------------------------------------------------------------------------------------- memory

    def _keep(self) -> None:
        """Errors outlive the node, until the machine is restarted: that resets its GPUs."""
        bad = {self._key(device): self._bad[device.index] for device in self._devices() if device.index in self._bad}
        write_whole(self._path, msgspec.json.encode({"boot_id": boot_id(), "gpus": bad}))

    def _recall(self) -> None:
        kept = read_record(self._path)
        if kept is None or kept.get("boot_id") != boot_id() or not self._caution.errors:
            return
        known = kept["gpus"]
        self._bad = {each.index: known[self._key(each)] for each in self._devices() if self._key(each) in known}

    def _tell(self) -> None:
        self._around.tell(GpuState(self.shut))

    def _devices(self) -> Sequence[Device]:
        return self._around.inventory.devices

    @staticmethod
    def _key(device: Device) -> str:
        return device.uuid or str(device.index)

    def _name(self, device: Device) -> str:
        return f"GPU {device.index} of {self._around.node}"

    def _slots(self, index: int) -> tuple[int, ...]:
        each = self._around.inventory.slots_per_gpu
        place = next(n for n, device in enumerate(self._devices()) if device.index == index)
        return tuple(range(place * each, (place + 1) * each))
