"""The node's decisions, alone: what became of an attempt, what a machine offers, what is sent."""

import json
from pathlib import Path

import pytest

from runyard.node.became import (
    Became,
    Early,
    Trace,
    boot_id,
    clock_ms,
    end_without_program,
    exited,
    look,
    lost,
    not_isolated,
    now_ms,
    what_became,
)
from runyard.node.evidence import Evidence, clip, human
from runyard.node.home import AttemptFolder, Home
from runyard.node.inventory import Device, Inventory, choose, drawing_nodes, isolation_notes, take_inventory
from runyard.node.ready import fingerprint
from runyard.node.report import without_overtaken
from runyard.node.views import variable_name, view_key
from runyard.wire import facts
from runyard.wire.orders import Item, Part, Place, Secret, Stage

RUN = "training-a1B2c3D4e"


@pytest.mark.parametrize(
    ("alive", "started", "ended", "became"),
    [
        (False, False, False, Became.prepared),
        (True, False, False, Became.running),
        (True, True, False, Became.running),
        (False, True, False, Became.lost),
        (False, True, True, Became.exited),
        (True, True, True, Became.exited),
        (False, False, True, Became.exited),
    ],
)
def test_what_became_of_an_attempt(alive: bool, started: bool, ended: bool, became: Became) -> None:
    assert what_became(Trace(alive, {} if started else None, {} if ended else None)) is became


@pytest.fixture
def folder(tmp_path: Path) -> AttemptFolder:
    return AttemptFolder(RUN, 2, str(tmp_path))


def test_an_end_without_a_program_is_written_once(folder: AttemptFolder) -> None:
    end_without_program(folder, Early(cause="cancel"))
    end_without_program(folder, Early(error="too late"))
    fact = exited(folder, look(folder).exit or {})
    assert (fact.cause, fact.launch_error, fact.exit_code) == ("cancel", None, None)


def test_a_wall_clock_that_was_set_since_puts_nothing_on_a_bill(folder: AttemptFolder) -> None:
    ended = {"ended_at_ms": now_ms() - 3_600_000, "boottime_ended_ms": clock_ms() - 5000, "boot_id": boot_id()}
    assert abs(now_ms() - 5000 - exited(folder, ended).at_ms) < 1000
    unset = {**ended, "ended_at_ms": now_ms() - 5010}
    assert exited(folder, unset).at_ms == unset["ended_at_ms"]  # to the millisecond, whoever reads it again
    assert exited(folder, {**ended, "boot_id": "another"}).at_ms == ended["ended_at_ms"]


def test_a_launch_that_failed(folder: AttemptFolder) -> None:
    end_without_program(folder, Early(error="no bash"))
    fact = exited(folder, look(folder).exit or {})
    assert (fact.run, fact.attempt, fact.launch_error, fact.cause) == (RUN, 2, "no bash", None)


def test_the_fact_of_an_exit_record(folder: AttemptFolder) -> None:
    Path(folder.log("training-log")).write_bytes(b"x" * 70)
    record = {"exit_code": 3, "ended_at_ms": 99, "oom_kills": 1, "memory_peak_bytes": 1048577, "tamper_proof": True}
    fact = exited(folder, record | {"log_bytes": 50})
    expected = facts.Exited(RUN, 2, 99, 3, oom_kills=1, log_bytes=70, tamper_proof=True, peak_memory_mib=2)
    assert fact == expected


def test_a_lost_attempt_tells_what_the_shim_said(folder: AttemptFolder) -> None:
    Path(folder.shim_errors).write_text("Out of cheese.\n")
    assert "Out of cheese." in lost(folder, {"boot_id": "now"}, "now").detail
    assert lost(folder, {"boot_id": "then"}, "now").reason == "machine_restarted"


@pytest.mark.parametrize("run", ["", "..", "training-", "training-a1B2c3D4e/../..", "training-a1B2c3D4e_x", "other"])
def test_a_folder_is_made_for_run_ids_alone(tmp_path: Path, run: str) -> None:
    with pytest.raises(ValueError, match="not a training-run id"):
        Home(str(tmp_path)).run(run)


def test_trials_have_folders_too(tmp_path: Path) -> None:
    assert Home(str(tmp_path)).run(f"{RUN}_12").endswith(f"/runs/{RUN}_12")


# --------------------------------------------------------------------------------------------------------- machines

CARDS = (Device(0, "H100", "GPU-aaaa"), Device(1, "H100", "GPU-bbbb"), Device(2, "L4", "GPU-cccc"))


@pytest.mark.parametrize(
    ("wanted", "environment", "indices"),
    [
        ("all", None, [0, 1, 2]),
        ("none", None, []),
        ("0,2", None, [0, 2]),
        ("all", "1,2", [1, 2]),
        ("all", "GPU-cccc", [2]),
        ("all", "", []),
        ("2", "1,2", [2]),
    ],
)
def test_which_devices_are_offered(wanted: str, environment: str | None, indices: list[int]) -> None:
    assert [device.index for device in choose(CARDS, wanted, environment)] == indices


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="offers 0, 1, 2"):
        choose(CARDS, "0,7", None)


def test_slots_share_devices_and_no_device_is_named_twice() -> None:
    machine = Inventory(("H100",) * 4, False, 1000, 1000, (CARDS[0], CARDS[2]), slots_per_gpu=2)
    assert [machine.visible_devices(slots) for slots in ((0,), (1,), (2,), (1, 2), (0, 1))] == [
        "0",
        "0",
        "2",
        "0,2",
        "0",
    ]
    assert Inventory(("logical slot",), True, 1000, 1000).visible_devices((0,)) == ""


def test_a_machine_without_gpus_offers_its_cores_as_logical_slots() -> None:
    machine = take_inventory(gpus="none")
    assert machine.logical
    assert len(machine.gpus) == max(1, machine.cpu_millis // 1000)
    assert machine.memory_mib >= 64


def test_fake_gpus_have_numbers_and_are_called_logical() -> None:
    machine = take_inventory(fake_gpus=2, slots_per_gpu=2)
    assert (len(machine.gpus), machine.logical, machine.visible_devices((3,))) == (4, True, "1")


def test_what_is_not_isolated_is_said() -> None:
    assert isolation_notes(0, {"memory": True, "cpu": True, "pids": True}) == []
    assert "not run as root" in isolation_notes(1000, {"memory": True, "cpu": True, "pids": True})[0]
    assert "memory and pids" in isolation_notes(0, {"cpu": True})[0]


# ------------------------------------------------------------------------------------------------------------ facts


def test_progress_that_was_overtaken_is_not_sent() -> None:
    waiting: list[facts.Fact] = [facts.StageProgress(1, 1, 9), facts.StageProgress(2, 1, 9), facts.Began(RUN, 1, 5)]
    assert without_overtaken(waiting, facts.Staged(1)) == waiting[1:]
    assert without_overtaken(waiting, facts.Began(RUN, 2, 5)) == waiting


# -------------------------------------------------------------------------------------------------------- identities

PLACE = Place("s3", "b", "p", "name", endpoint_url="http://h", secret=Secret("id", "key"))
ITEMS = (Item("a", 1, "x"), Item("b", 2, "y"))


def test_a_view_is_known_by_place_and_listing_not_by_credentials_or_name() -> None:
    key = view_key(Part(PLACE, ITEMS), "spec")
    other = Place("s3", "b", "p", "other", endpoint_url="http://h", secret=Secret("id2", "key2"))
    assert view_key(Part(other, ITEMS[::-1]), "spec2") == key
    assert view_key(Part(PLACE, (Item("a", 1, "z"), ITEMS[1])), "spec") != key
    assert view_key(Part(Place("s3", "b", "q", endpoint_url="http://h"), ITEMS), "spec") != key


def test_a_listing_without_etags_serves_one_spec_alone() -> None:
    blind = Part(PLACE, (Item("a", 1), Item("b", 2)))
    assert view_key(blind, "one") != view_key(blind, "two")


def test_a_specs_fingerprint_holds_no_secret_and_changes_with_what_is_asked() -> None:
    stage = Stage(1, "ab" * 32, (Part(PLACE, ITEMS),))
    assert fingerprint(stage) == fingerprint(
        Stage(2, "ab" * 32, (Part(Place("s3", "b", "p", "name", endpoint_url="http://h"), ITEMS),))
    )
    assert fingerprint(stage) != fingerprint(Stage(1, "cd" * 32, stage.data))


@pytest.mark.parametrize(
    ("name", "variable"), [("d", "DATA_DIR_d"), ("my data-1", "DATA_DIR_my_data_1"), ("\xe9", "DATA_DIR__")]
)
def test_names_of_variables(name: str, variable: str) -> None:
    assert variable_name(name) == variable


# ----------------------------------------------------------------------------------------------------------- evidence


def test_evidence_has_times_and_one_line_a_note() -> None:
    evidence = Evidence()
    evidence.note("two\nlines")
    (line,) = evidence.text().splitlines()
    assert line.endswith("Z two lines")
    assert line.startswith("20")


def test_long_evidence_loses_its_middle_and_says_so() -> None:
    evidence = Evidence()
    for number in range(2100):
        evidence.note(f"note {number}")
    text = evidence.text()
    assert "note 0\n" in text
    assert "note 2099\n" in text
    assert "100 lines left out" in text


def test_a_clipped_text_begins_with_a_whole_line() -> None:
    assert clip("first\nsecond\n", 9) == "second\n"
    assert clip("short", 9) == "short"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5 * 10**15, "5000.0 TB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert human(size) == text


def test_records_of_ours_are_json(folder: AttemptFolder) -> None:
    end_without_program(folder, Early(cause="cancel"))
    assert json.loads(Path(folder.exit).read_text())["attempt"] == f"{RUN}/2"


OWNED = tuple(
    Device(index, "H100", f"GPU-{index}", (f"/dev/nvidia{index}", f"/dev/dri/card{index}")) for index in range(3)
)


def test_a_program_is_closed_out_of_all_gpus_but_its_own() -> None:
    nodes = tuple(node for device in OWNED for node in device.nodes)
    machine = Inventory(("H100",) * 4, False, 1000, 1000, (OWNED[0], OWNED[2]), slots_per_gpu=2, nodes=nodes)
    assert machine.closed_nodes((0, 1)) == ["/dev/nvidia1", "/dev/dri/card1", "/dev/nvidia2", "/dev/dri/card2"]
    assert machine.closed_nodes((0, 2)) == ["/dev/nvidia1", "/dev/dri/card1"]
    assert machine.closed_nodes(()) == list(nodes)
    assert [machine.visible_devices(slots) for slots in ((0,), (3, 0), ())] == ["GPU-0", "GPU-0,GPU-2", ""]
    alone = Inventory(("H100",), False, 1000, 1000, OWNED[:1], nodes=OWNED[0].nodes)
    assert (alone.closed_nodes((0,)), alone.visible_devices((0,))) == ([], "0")


def test_the_drawing_nodes_of_a_gpu_are_found_by_its_bus_address(tmp_path: Path) -> None:
    for name in ("card1", "renderD129"):
        (tmp_path / "0000:3b:00.0" / "drm" / name).mkdir(parents=True)
    assert drawing_nodes("00000000:3B:00.0", str(tmp_path)) == ("/dev/dri/card1", "/dev/dri/renderD129")
    assert drawing_nodes("00000000:5E:00.0", str(tmp_path)) == ()


def test_what_a_program_lacks_of_its_isolation_is_told_with_its_start(tmp_path: Path) -> None:
    started = {"missing": ["No filter."], "cgroup": {"missing": "No memory limit."}}
    assert not_isolated(started) == ["Not isolated: No filter.", "Not isolated: No memory limit."]
    assert not_isolated({"cgroup": None}) == []
