"""The measure of a deep queue: the ends that are counted are those that happen while it listens."""

import time

from bench.measures.queue import SLOTS, drain, rate
from bench.yard import PROGRAMS, manifest, parameters, yard
from runyard.client import Event

DEPTH = 300


def test_the_rate_is_that_of_ends_by_the_servers_clock_while_it_listens() -> None:
    with yard(SLOTS, {}) as opened:
        opened.client.pause_queue()
        batch = opened.submit(PROGRAMS / "trivial", manifest("trivial"), parameters(DEPTH))
        opened.skip_to(batch.ids[-1])
        held = time.time() * 1e3
        opened.client.resume_queue()
        kinds: list[str] = []
        for event in opened.client.events(opened.seq, deadline=time.monotonic() + 60):
            assert isinstance(event, Event)
            kinds.append(event.kind)
            if event.kind == "finished":
                break
        assert not {"accepted", "staged"} & set(kinds)
        opened.wait(batch, 3)
        assert len(batch.ended) == 3
        assert all(held - 1000 < at < time.time() * 1e3 + 1000 for at in batch.ended.values())
        drain(opened, batch)

        begun = time.monotonic()
        found = rate(opened, depth=DEPTH, counted=20)
        assert 20 / (time.monotonic() - begun) < found.runs_s
        assert found.cpu_ms >= 0
        assert not opened.client.status().counts.get("waiting")
