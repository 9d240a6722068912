"""Who holds a GPU's memory, and whether a GPU is to be trusted: tables."""

import pytest

from runyard.core.gpus import (
    GIB,
    HARDWARE,
    Foreign,
    Holder,
    Sight,
    broken,
    drained_sentence,
    foreign,
    held_sentence,
    reported,
)

SLACK = GIB
OURS = Holder(10, 30 * GIB, "python3", ours=True)
THEIRS = Holder(20, 12 * GIB, "python3")
SMALL = Holder(21, GIB // 2, "Xorg")
SILENT = Holder(22, None, "odd")
UNKNOWN = Holder(23, 40 * GIB, seen=False)


@pytest.mark.parametrize(
    ("sight", "in_use", "found"),
    [
        (Sight(0), False, None),
        (Sight(GIB), False, None),
        (Sight(GIB + 1), False, Foreign(GIB + 1, ())),
        (Sight(12 * GIB, (SMALL, THEIRS)), False, Foreign(12 * GIB, (THEIRS, SMALL))),
        (Sight(40 * GIB, (UNKNOWN,)), False, Foreign(40 * GIB, ())),
        (Sight(30 * GIB, (OURS,)), True, None),
        (Sight(43 * GIB, (OURS, THEIRS)), True, Foreign(12 * GIB, (THEIRS,))),
        (Sight(31 * GIB, (OURS, SMALL)), True, None),
        (Sight(70 * GIB, (OURS, UNKNOWN)), True, None),
        (Sight(60 * GIB, (OURS, SILENT)), True, None),
        (Sight(30 * GIB, (OURS,)), False, Foreign(30 * GIB, ())),
    ],
    ids=[
        "free", "as much as may be", "more, by nobody knows whom", "named, the largest first", "in another container",
        "our own", "beside our own", "little beside our own", "unknown beside our own", "of unknown size",
        "left behind",
    ],
)  # fmt: skip
def test_what_strangers_hold(sight: Sight, in_use: bool, found: Foreign | None) -> None:
    assert foreign(sight, SLACK, in_use=in_use) == found


def test_the_sentence_names_who_holds_how_much() -> None:
    assert held_sentence("GPU 0 of yard", Foreign(round(12.3 * GIB), (Holder(4711, 1, "python3"),))) == (
        "GPU 0 of yard: 12.3 GiB are held by a process that is not Runyard's (pid 4711, python3); it is given to no "
        "run until they are free."
    )
    many = Foreign(2 * GIB, tuple(Holder(pid, 1) for pid in range(1, 6)))
    assert "by processes that are not Runyard's (pid 1; pid 2; pid 3; and 2 more)" in held_sentence("GPU 1", many)
    assert "by a process that is not Runyard's; it is" in held_sentence("GPU 1", Foreign(2 * GIB, ()))


@pytest.mark.parametrize(
    ("sight", "words"),
    [
        (Sight(0), None),
        (Sight(0, busy=100, uncorrected=0), None),
        (Sight(0, uncorrected=2), "had 2 errors"),
        (Sight(0, pending=True), "waits for a reset"),
        (Sight(0, pending=True, uncorrected=1, failed=True), "could not replace"),
    ],
)
def test_counters_that_speak_against_a_gpu(sight: Sight, words: str | None) -> None:
    found = broken(sight)
    assert (found is None) if words is None else (found is not None and found.startswith(words))


@pytest.mark.parametrize("xid", [13, 31, 32, 43, 45, 63, 68, 69])
def test_what_a_program_brings_about_or_what_informs_drains_nothing(xid: int) -> None:
    assert xid not in HARDWARE
    assert reported(xid) == f"reported XID {xid}"


@pytest.mark.parametrize("xid", [48, 64, 74, 79, 94, 95, 119, 120])
def test_hardware_errors_are_said_in_words(xid: int) -> None:
    sentence = drained_sentence("GPU 2 of yard", "yard", reported(xid))
    assert sentence.startswith(f"GPU 2 of yard reported XID {xid} ({HARDWARE[xid]}): it is given to no run.")
    assert sentence.endswith("`runyard nodes resume yard`.")
