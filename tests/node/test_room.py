"""A machine's disk: the cache gives way first, then nothing new starts, and it comes back by itself."""

from dataclasses import dataclass, field

from runyard.node.room import DiskRoom, space

GIB = 1 << 30


@dataclass
class Disk:
    """A disk of 1,000 GiB, and a cache on it that can give way to some amount."""

    free: int
    cached: int = 0
    told: list[str] = field(default_factory=list[str])

    def measure(self, folder: str) -> tuple[int, int]:
        return self.free, 1000 * GIB

    def give_way(self, wanted: int) -> None:
        given = min(self.cached, max(0, wanted - self.free))
        self.cached -= given
        self.free += given

    def room(self) -> DiskRoom:
        return DiskRoom("/", 8 * GIB, self.give_way, self.told.append, measure=self.measure)


def test_the_cache_gives_way_before_the_machine_is_closed() -> None:
    disk = Disk(7 * GIB, cached=2 * GIB)
    room = disk.room()
    room.look()
    assert (disk.told, room.closed, disk.free, disk.cached) == ([], "", 8 * GIB, GIB)


def test_a_machine_is_closed_with_a_sentence_once_and_opens_with_some_margin() -> None:
    disk = Disk(7 * GIB)
    room = disk.room()
    room.look()
    room.look()
    assert len(disk.told) == 1
    assert disk.told[0].startswith("The machine's disk has only 7 GiB of 1e+03 GiB left")
    disk.free = 8 * GIB
    room.look()
    assert room.closed, "it would be closed again with the next file"
    disk.free = 9 * GIB
    room.look()
    assert disk.told[1:] == [""]
    assert room.closed == ""


def test_the_space_of_a_real_disk() -> None:
    free, total = space("/tmp")
    assert 0 <= free <= total
    assert total > 0
