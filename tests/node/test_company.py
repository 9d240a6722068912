"""What nobody waits for is kept back for its company, and no longer than programs run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from runyard.node.company import COMPANY_S, LONGEST_S, SEVERAL, Company
from runyard.node.link import Address, Link
from runyard.node.report import Report
from runyard.node.together import Together
from runyard.testing.wire_server import WireServer
from runyard.wire import facts
from runyard.wire.objects import Named

RUN = "training-a1B2c3D4e"
LONG_S = 30.0


def link_to(server: WireServer) -> Link:
    return Link(Address(server.url, "n1", "node-token"), timeout_s=5)


class Patient(Company):
    """One that would wait for very long while programs run."""

    def __init__(self) -> None:
        self.runs = True
        super().__init__(lambda: self.runs)

    def patience_s(self) -> float:
        return LONG_S if self.runs else 0.0

    def fall_quiet(self) -> None:
        self.runs = False
        self.ended(more=False)


@pytest.fixture
def server() -> Iterator[WireServer]:
    served = WireServer()
    served.start()
    yield served
    served.stop()


def test_where_programs_end_one_after_the_other_more_company_is_waited_for() -> None:
    company = Company()
    for _ in range(SEVERAL - 1):
        company.ended(more=True)
    assert company.patience_s() == COMPANY_S, "too few have ended"
    begun = time.monotonic()
    company.ended(more=True)
    time.sleep(COMPANY_S * 1.5)  # the time that these ends took is what is measured
    told = company.patience_s()
    assert time.monotonic() - begun > 2 * LONGEST_S or COMPANY_S < told <= LONGEST_S


def test_nobody_waits_where_nothing_runs() -> None:
    assert Company(lambda: False).patience_s() == 0.0


def test_a_wait_is_over_when_the_last_program_has_ended() -> None:
    company = Patient()
    waits = threading.Thread(target=company.wait, args=(LONG_S,), daemon=True)
    waits.start()
    company.ended(more=True)
    waits.join(0.2)
    assert waits.is_alive(), "others run"
    company.fall_quiet()
    waits.join(10)
    assert not waits.is_alive()


def test_facts_that_are_kept_back_go_when_the_last_program_has_ended(server: WireServer) -> None:
    company = Patient()
    report = Report(link_to(server), company)
    threading.Thread(target=report.send_for_ever, daemon=True).start()
    first, second = facts.Began(RUN, 1, 5), facts.Stored(RUN, 1, 1)
    report.renew([first])
    server.wait(lambda: server.facts == [first], "the first, at once")
    report.tell(second)
    time.sleep(0.1)
    assert server.facts == [first], "kept back"
    company.fall_quiet()
    server.wait(lambda: server.facts == [first, second], "the second")


def test_objects_that_are_kept_back_go_when_the_last_program_has_ended(server: WireServer) -> None:
    company = Patient()
    together = Together(link_to(server), company)
    told = [threading.Event(), threading.Event()]
    for number, event in enumerate(told):
        together.put([(Named("acme", "results", f"{number}", 1), b"x")], lambda _, event=event: event.set())
        if number == 0:
            assert event.wait(10), "the first, at once"
    assert not told[1].wait(0.1), "kept back"
    company.fall_quiet()
    assert told[1].wait(10)
