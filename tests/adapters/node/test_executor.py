"""Requests become wire orders on each machine's stream, from any thread, in order."""

import asyncio
import json
from dataclasses import replace
from threading import Thread

from runyard.adapters.node import NodeExecutor
from runyard.core.run import StopCause
from runyard.core.spec import Connection, Credentials, Location, StoreKind
from runyard.ports.executor import DataPart, LaunchRequest, StageRequest, StoreRequest
from runyard.ports.links import OrderStream
from runyard.ports.objects import ObjectEntry
from runyard.wire import orders

KEYS = Credentials("AKIA", "sesame", "token")
PLACE = Location(StoreKind.s3, Connection("http://127.0.0.1:9", "eu-1", secret="data/0"), "bucket", "prefix", "images")
RESULTS = Location(StoreKind.local, Connection(), "results")
STAGE = StageRequest("n1", 7, "acme", "a" * 64, (DataPart(PLACE, (ObjectEntry("a", 1, "e"),), KEYS),))
LAUNCH = LaunchRequest(
    node_id="n1", run_id="training-1", attempt=2, name="digits", command="true", parameters="{}", env={"A": "1"},
    secret_env={"S": "sesame"}, member_number=3, gpus=1, slots=(1,), cpu_millis=500, memory_mib=256,
    max_runtime_ms=1000, grace_ms=2000, outputs=("*.ckpt",), stage=replace(STAGE, data=(), listed=False),
    results=RESULTS, account_id="acme", results_credentials=None,
)  # fmt: skip
STORE = StoreRequest("n1", "training-1", 7, 2, (1,), ("*.ckpt",), PLACE, "acme", KEYS, "evidence")


async def heard(stream: OrderStream) -> list[orders.Order]:
    """What is due on a stream."""
    lines = await stream.next(5)
    assert lines is not None
    return [orders.decode(line) for line in lines.splitlines()]


def test_every_request_in_order_with_what_it_needs() -> None:
    async def story() -> list[orders.Order]:
        executor = NodeExecutor()
        stream = executor.connect("n1")
        executor.stage(STAGE)
        executor.launch(LAUNCH)
        executor.stop("n1", "training-1", 2, StopCause.cancel, 2000)
        executor.store(STORE)
        executor.stop_storing("n1", "training-1")
        executor.release("n1", "training-1")
        executor.synced("n1", ("training-1",))
        return await heard(stream)

    secret = orders.Secret("AKIA", "sesame", "token")
    place = orders.Place("s3", "bucket", "prefix", "images", "acme", "http://127.0.0.1:9", "eu-1", None, secret)
    results = orders.Place("local", "results", account="acme")
    assert asyncio.run(story()) == [
        orders.Stage(7, "a" * 64, (orders.Part(place, (orders.Item("a", 1, "e"),)),)),
        orders.Launch(
            "training-1", 2, "digits", "true", orders.Stage(7, "a" * 64, listed=False), results, "{}", {"A": "1"},
            {"S": "sesame"}, 3, (1,), 500, 256, 1000, 2000, ("*.ckpt",),
        ),
        orders.Stop("training-1", 2, "cancel", 2000),
        orders.Store("training-1", 7, 2, place, (1,), ("*.ckpt",), "evidence"),
        orders.StopStoring("training-1"),
        orders.Release("training-1"),
        orders.Resync(("training-1",)),
    ]  # fmt: skip


def test_no_secret_is_shown() -> None:
    assert "sesame" not in repr((STAGE, LAUNCH, STORE))


def test_orders_for_a_machine_that_is_away_are_dropped_and_others_get_theirs_alone() -> None:
    async def story() -> tuple[list[orders.Order], bytes | None]:
        executor = NodeExecutor()
        executor.release("n1", "early")
        first, second = executor.connect("n1"), executor.connect("n2")
        executor.release("n1", "mine")
        return await heard(first), await second.next(0.01)

    assert asyncio.run(story()) == ([orders.Release("mine")], b"")


def test_a_newer_stream_ends_the_older() -> None:
    async def story() -> None:
        executor = NodeExecutor()
        older = executor.connect("n1")
        executor.release("n1", "not read in time")
        newer = executor.connect("n1")
        assert await older.next(5) is None
        assert executor.is_connected("n1")
        assert not executor.disconnect("n1", older)
        executor.release("n1", "x")
        assert await heard(newer) == [orders.Release("x")]
        assert executor.disconnect("n1", newer)
        assert not executor.disconnect("n1", newer)
        assert not executor.is_connected("n1")

    asyncio.run(story())


def test_orders_from_many_threads_all_arrive_each_threads_own_in_order() -> None:
    async def story() -> list[str]:
        executor = NodeExecutor()
        stream = executor.connect("n1")

        def give(name: str) -> None:
            for number in range(200):
                executor.release("n1", f"{name}-{number}")

        threads = [Thread(target=give, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        came = list[str]()
        while len(came) < 800:
            lines = await stream.next(5)
            assert lines, "an order was lost"
            came += [json.loads(line)["run"] for line in lines.splitlines()]
        for thread in threads:
            thread.join()
        return came

    came = asyncio.run(story())
    for name in "abcd":
        assert [run for run in came if run.startswith(name)] == [f"{name}-{number}" for number in range(200)]


def test_orders_after_the_end_of_the_loop_are_nobodys_loss() -> None:
    executor = NodeExecutor()

    async def connect() -> None:
        executor.connect("n1")

    asyncio.run(connect())
    executor.release("n1", "late")
