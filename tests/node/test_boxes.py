"""What a learner's container is made of: its devices, variables and folders."""

from dataclasses import replace
from typing import Any, cast

import pytest

from runyard.core.containers import DOCKER, PODMAN, Engine
from runyard.core.errors import Refused
from runyard.core.house import User
from runyard.node.containers.boxes import Contents, gpus_of, variables_of, words_of
from runyard.node.containers.engines import Client
from runyard.node.home import Home
from runyard.node.inventory import Device, Inventory
from runyard.node.seats import seats
from runyard.wire import orders
from tests.node.nodes import RUN, launch_of

TWO = tuple(Device(index, "H100", f"GPU-{index}", (f"/dev/nvidia{index}",)) for index in range(2))
REAL = Inventory(("H100", "H100"), False, 8000, 8192, TWO, nodes=("/dev/nvidia0", "/dev/nvidia1"))
FAKE = Inventory(("fake GPU", "fake GPU"), True, 8000, 8192, (Device(0, "fake GPU"), Device(1, "fake GPU")))
CDI = Client(Engine(PODMAN, "/usr/bin/podman", (4, 3), cdi=True), {"PATH": "/bin"})


def launch(**more: Any) -> orders.Launch:
    return launch_of(orders.Stage(7), "python3 train.py", **more)


def words(client: Client, contents: Contents) -> list[str]:
    return cast("list[str]", words_of(client, "home", "box", contents)["create"])


def contents(order: orders.Launch, inventory: Inventory) -> Contents:
    folder = Home("/y").attempt(RUN, 1)
    variables = {"PATH": "/venv/bin", "DATA_DIR": "/y/data", "CUDA_VISIBLE_DEVICES": "GPU-1"}
    return Contents(
        order,
        seats(order, inventory)[0],
        folder,
        "sha256:1",
        User(50001, 50001, (5007,)),
        99,
        gpus_of(inventory, order.slots),
        ["/y/data", "/y/data/part"],
        [folder.own, folder.own + "/result", "/y/ckpt"],
        variables,
    )


def test_devices_are_named_by_uuid_and_pretended_ones_are_none() -> None:
    assert gpus_of(REAL, (1,)) == ("GPU-1",)
    assert gpus_of(FAKE, (0, 1)) == ()
    told = words(CDI, contents(launch(slots=(1,)), REAL))
    assert [word for word in told if word.startswith("nvidia.com/gpu=")] == ["nvidia.com/gpu=GPU-1"]
    assert not any(word.startswith("nvidia.com") for word in words(CDI, contents(launch(slots=(0,)), FAKE)))
    old = Client(Engine(DOCKER, "/usr/bin/docker", (20, 10)), {})
    assert '"device=GPU-0,GPU-1"' in words(old, contents(launch(slots=(0, 1)), REAL))
    with pytest.raises(Refused, match="cdi generate"):
        words(replace(CDI, engine=replace(CDI.engine, cdi=False)), contents(launch(slots=(0,)), REAL))


def test_variables_of_the_machine_stay_outside_and_devices_count_from_0() -> None:
    seat = seats(launch(slots=(1,)), REAL)[0]
    machine = {"PATH": "/venv/bin", "LD_LIBRARY_PATH": "/opt", "DATA_DIR": "/d", "CUDA_VISIBLE_DEVICES": "GPU-1"}
    told = variables_of(machine, {}, seat, real=True)
    assert told == {"DATA_DIR": "/d", "CUDA_VISIBLE_DEVICES": "0"}
    given = {"PATH": "/mine", "PYTHONPATH": "lib"}
    assert variables_of({**machine, **given}, given, seat, real=False) == {
        "DATA_DIR": "/d",
        "CUDA_VISIBLE_DEVICES": "GPU-1",
        **given,
    }


def test_each_folder_is_mounted_once_and_read_only_where_it_is() -> None:
    box = contents(launch(slots=(0,)), FAKE)
    mounts = [word for word in words(CDI, box) if word.startswith("type=bind")]
    own = box.folder.own
    assert mounts[:3] == [
        "type=bind,source=/y/ckpt,target=/y/ckpt",
        "type=bind,source=/y/data,target=/y/data,readonly",
        f"type=bind,source={own},target={own}",
    ]
    assert {f"type=bind,source={own}/tmp,target=/tmp", f"type=bind,source={own}/tmp,target=/var/tmp"} <= set(mounts)
    assert len(mounts) == 6
    told = words_of(CDI, "home", "box", box)
    assert "train.py" not in " ".join(cast("list[str]", told["create"]))
    assert "train.py" in str(told["script"])
