"""The node put together: its parts, what it says of itself, and which part each order is for."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runyard import __version__
from runyard.core.house import NOBODY_MAPPED, Root, Users
from runyard.node.access import StoreAccess
from runyard.node.became import Became, boot_id, clock_ms
from runyard.node.cache import Cache
from runyard.node.cache_orders import CacheOrders
from runyard.node.company import Company
from runyard.node.containers.boxes import FEATURE, Boxes
from runyard.node.data import DataFetcher
from runyard.node.endings import Endings
from runyard.node.environments.choosing import Environments
from runyard.node.environments.interpreter import find_interpreter
from runyard.node.environments.pip import PLAIN, PipSettings
from runyard.node.features import find_namespaces, missing_walls
from runyard.node.finishing import Finishing
from runyard.node.gpus.guarding import CAREFREE, Caution, Guarding, Surroundings
from runyard.node.gpus.nvml import open_nvml
from runyard.node.gpus.pretended import Pretended
from runyard.node.gpus.seeing import Gpus
from runyard.node.grants import Grants
from runyard.node.home import AttemptFolder, Home
from runyard.node.idling import Idling
from runyard.node.inventory import Inventory
from runyard.node.lanes import Lanes, Later
from runyard.node.launching import Hands, Launching
from runyard.node.lent import Lent, resolved
from runyard.node.limiting import MEASURE_EVERY_S, Limiting
from runyard.node.limits import DEFAULTS, Limits
from runyard.node.link import Address, Link
from runyard.node.metrics.collecting import Collecting
from runyard.node.owning import Owned
from runyard.node.prepare import Ground, read_order
from runyard.node.private import private_folders
from runyard.node.ready import Specs
from runyard.node.removing import Removing
from runyard.node.report import Report
from runyard.node.room import DiskRoom
from runyard.node.ship import Shipping
from runyard.node.stage import Staging, Tools
from runyard.node.starting import Starting
from runyard.node.store import Storing
from runyard.node.together import Together
from runyard.node.users import Mapping
from runyard.node.warm.parents import Housing, WarmParents
from runyard.node.watch import Listener, Watch
from runyard.shim import seccomp
from runyard.stores.place import EmbeddedAccess
from runyard.wire import facts, orders

MOMENT_S = 0.03
"""For so long the node keeps to itself what nobody waits for while a program is being started."""
SPECS_KEPT_S = 30 * 86_400
"""What is ready for a spec, and the evidence of one that failed, is known for so long after it was last asked for."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator says. ``patience_s``: how long a data store that cannot be reached is tried;
    ``sync_every_s``: between two looks at the checkpoints of running programs; ``ca_bundle``: authorities that object
    stores may be certified by, beside the system's own; ``limits``: of what a run writes, looked at every
    ``measure_every_s`` where that is cheap; ``pip``: of environments; ``roots``, ``users``: :mod:`runyard.core.house`;
    ``private_tmp``: programs have a ``/tmp`` of their own; ``reserve``: bytes of the disk that nothing new may take;
    ``caution``: when GPUs are kept back; ``private``: folders of the service, which no program sees that has the node's
    own user id; ``open_calls``: system calls that programs are not refused; ``container_engine``:
    :data:`runyard.core.containers.CHOICES`."""

    uid_base: int
    roots: tuple[Root, ...]
    cache_limit: int
    patience_s: float
    sync_every_s: float
    ca_bundle: Path | None = None
    limits: Limits = DEFAULTS
    measure_every_s: float = MEASURE_EVERY_S
    pip: PipSettings = PLAIN
    users: Users = NOBODY_MAPPED
    private_tmp: bool = True
    reserve: int = 0
    caution: Caution = CAREFREE
    private: tuple[str, ...] = ()
    open_calls: tuple[str, ...] = ()
    container_engine: str = "auto"


class Agent:
    """One node on one machine."""

    def __init__(self, home: Home, address: Address, inventory: Inventory, settings: Settings, owned: Owned) -> None:
        self.url = address.url
        self._home, self._address, self._inventory = home, address, inventory
        self.link = Link(address)
        self.watch, self._company = _watched()
        self.report = Report(self.link, self._company)
        self.shipping = Shipping(self.link, self._company)
        self.shipping.companion = collecting = Collecting(self.shipping)
        self.shipping.is_known = self.report.is_known
        embedded = EmbeddedAccess(address.url, address.token or "")
        mapping = Mapping(settings.uid_base, settings.users) if os.geteuid() == 0 else None
        access = StoreAccess(embedded, settings.roots, settings.ca_bundle, mapping)
        cache = Cache(home, settings.cache_limit)
        self._specs = specs = Specs(home)
        data = DataFetcher(cache, access, settings.patience_s)
        interpreter = find_interpreter(home.root)
        own = dict(os.environ)
        self._boxes = boxes = Boxes(home, settings.container_engine, own)
        self._environments = Environments(cache, home.root, interpreter, settings.pip, boxes.images)
        self.staging = Staging(Tools(self.link, cache, specs, data, self.report, self._environments))
        self._cache_orders = CacheOrders(home, cache, self.staging, self.report, boxes.images)
        spaces = find_namespaces()
        sealed = mapping is None and "mount" in spaces
        lent = _lent(home, settings, owned, sealed, missing_walls(spaces))
        ground = Ground(home, cache, specs, inventory, interpreter, mapping, own, settings.limits, spaces, lent, boxes)
        storing = Storing(home, specs, access, collecting.is_bare)
        lanes, later = Lanes(), Later()
        self.grants = Grants(home, self.report.follow)
        self.endings = Endings(ground, self.report, self.shipping, self.watch, lanes, later, self.grants)
        parents = WarmParents(Housing(home, own, ground.namespaces, owned.hidden), later) if ground.namespaces else None
        starting = Starting(
            parents,
            mapping,
            lambda key: cache.path("code", key),
            lambda slots: owned.descriptors(inventory.devices_of(slots)),
            interpreter if sealed else None,
        )
        self.staging.expected = lambda stage, ready: starting.expect(stage, ready.interpreter or interpreter)
        self.staging.patiently = lambda job: later.put(MOMENT_S, job)
        self.guarding = self._guard(settings.caution)
        hands = Hands(
            ground,
            self.staging,
            storing,
            self.shipping,
            self.watch,
            self.endings,
            lanes,
            later,
            starting,
            self.grants,
            self.report,
            Removing(home),
            self.guarding,
        )
        self.launching = Launching(hands)
        self.limiting = Limiting(home, self.watch, settings.measure_every_s)
        self.idling = Idling(home, self.watch, self._busy, self.report.tell)
        self.room = DiskRoom(home.root, settings.reserve, self.staging.make_room, self._tell_of_disk)
        self.finishing = self._finish(hands, settings)

    def _finish(self, hands: Hands, settings: Settings) -> Finishing:
        together = Together(self.link, self._company)
        return Finishing(hands, self.launching, self.report, together, settings.sync_every_s)

    def _guard(self, caution: Caution) -> Guarding:
        around = Surroundings(self._home, self._address.name, self._inventory, self._living, self.report.tell)
        return Guarding(_gpus_of(self._inventory, self._home), caution, around)

    def start(self) -> None:
        """Find again what lives from before, and begin to listen."""
        self.staging.in_use = self._specs_in_use
        self.staging.evicted = self.link.hang_up
        self.endings.recover_grants(list(self._home.all_attempts()))
        self.watch.start(Listener(self.endings.started, self.endings.over, self.endings.ended, self.endings.gone))
        for folder in self._home.all_attempts():
            self.endings.recover(folder)
        self.endings.look_for_ever()
        self.guarding.start()
        self._specs.prune(time.time() - SPECS_KEPT_S)
        self._environments.building.remove_halves()
        self._boxes.start()
        self.finishing.sync_for_ever()
        self.limiting.start()
        self.idling.start()
        self.room.start()

    def _features(self) -> tuple[str, ...]:
        engine = (FEATURE,) if self._boxes.look() is not None else ()
        return (*self._inventory.features, *engine)

    def hello(self) -> facts.Hello:
        """What this node says of itself at every connect."""
        told_ms = clock_ms()  # first: the server takes it for later than it was
        return facts.Hello(
            name=self._address.name,
            boot_id=boot_id(),
            version=__version__,
            gpus=self._inventory.gpus,
            logical=self._inventory.logical,
            cpu_millis=self._inventory.cpu_millis,
            memory_mib=self._inventory.memory_mib,
            held=tuple(self._held()),
            staged=self.staging.ready(),
            notes=self._inventory.notes,
            python=self._environments.own.python,
            packages=self._environments.frameworks(),
            features=self._features(),
            closed=self.room.closed,
            shut=self.guarding.shut,
            clock_ms=told_ms,
        )

    def _tell_of_disk(self, closed: str) -> None:
        self.report.tell(facts.DiskState(closed))

    def _living(self) -> Sequence[tuple[AttemptFolder, tuple[int, ...]]]:
        """The attempts whose shims live, and their slots."""
        folders = (self._home.attempt(run, attempt) for run, attempt in self.watch.watched())
        return [(folder, self.grants.slots_of(folder)) for folder in folders]

    def _busy(self, folder: AttemptFolder) -> int | None:
        """How much the GPUs of an attempt compute; those that it shares tell nothing of it."""
        slots = self.grants.slots_of(folder)
        others = [theirs for each, theirs in self._living() if each.run != folder.run]
        return self.guarding.busy(slots, [slot for theirs in others for slot in theirs])

    def _held(self) -> Iterator[facts.Held]:
        """Every attempt with a folder, and grants without one yet."""
        grants = self.grants.named()
        for folder in self._home.all_attempts():
            became, key = self.endings.gang(folder).became, (folder.run, folder.number)
            grants.discard(key)
            slots = self.grants.slots_of(folder) if became is not Became.prepared else ()
            yield facts.Held(folder.run, folder.number, became.value, slots)
        for run, attempt in grants:
            yield facts.Held(run, attempt, Became.prepared.value)

    def connected(self) -> None:
        """The server has heard the hello: it gets every fact again."""
        self.report.renew([*self._declined(), *self.endings.facts(), *self.guarding.errors(), *self.idling.facts()])
        self.shipping.renew()

    def _declined(self) -> Iterator[facts.Declined]:
        """What was only got ready before this node started: should it have been a grant, it is none any more. (Of an
        attempt that is to start the server sends the order again, and takes no notice of this.)"""
        for folder in self._home.all_attempts():
            key = (folder.run, folder.number)
            if not self.launching.has_order(*key) and self.endings.gang(folder).became is Became.prepared:
                yield facts.Declined(*key)

    def obey(self, order: orders.Order) -> None:
        """Hand an order to the part that it is for. Returns at once."""
        match order:
            case orders.Stage():
                self.guarding.look_soon()
                self.staging.request(order)
            case orders.Launch():
                self.launching.launch(order)
            case orders.Withdraw():
                self.launching.withdraw(order)
            case orders.Stop():
                self.launching.stop(order)
            case orders.Store():
                self.finishing.store(order)
            case orders.StopStoring():
                self.finishing.stop_storing(order.run)
            case orders.Release():
                self.finishing.release(order.run)
            case orders.Resync():
                self.finishing.keep_only(order.runs)
            case orders.CacheCommand():
                self._cache_orders.obey(order)
            case orders.PutBack():
                self.guarding.put_back()
            case orders.Ping():
                pass

    def _specs_in_use(self) -> Collection[int]:
        orders_kept = (read_order(self._home.attempt(run, number)) for run, number in self.watch.watched())
        return self.launching.specs() | {kept.spec for kept in orders_kept if kept is not None}


def _watched() -> tuple[Watch, Company]:
    """Who listens to the shims, and who knows by that whether there will soon be more to tell."""
    watch = Watch()
    company = Company(watch.is_busy)
    watch.hung_up = company.ended
    return watch, company


def _gpus_of(inventory: Inventory, home: Home) -> Gpus | None:
    """What tells of the GPUs that are offered; None where there are none."""
    indices = [device.index for device in inventory.devices]
    if inventory.logical:
        return Pretended(home.root, indices) if indices else None
    return open_nvml(indices)


def _lent(home: Home, settings: Settings, owned: Owned, sealed: bool, missing: tuple[str, ...]) -> Lent:
    """What programs see of the machine. ``sealed``: they have the node's own user id."""
    roots = resolved(settings.roots)
    private = private_folders([home.root, *settings.private], roots, os.environ) if sealed else ()
    missing = (*missing, *seccomp.opened(settings.open_calls))
    return Lent(roots, settings.private_tmp, (*owned.hidden, *private), sealed, missing, settings.open_calls)
