"""What the server remembers without a record stays small, however long it lives: each memory has an end or a bound."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.soak.holding import lengths
from runyard.core.lifecycle import RetryPolicy
from runyard.core.spec import Credentials
from runyard.engine import metrics, stage
from runyard.engine.caching import Caches
from runyard.engine.leases import Leases
from runyard.engine.readiness import MANY_READY, Readiness
from runyard.engine.summing import QUIET_S, Summing
from runyard.engine.world import MOST_CLASSES, OPENED_S, Pace, SpecShelf
from runyard.ports.caches import CacheAction
from runyard.ports.metrics import MetricKey
from runyard.testing.fakes import Crashed, Fakes, RecordingExecutor
from tests.engine.test_metrics import a_series, block
from tests.engine.yard import Yard

RETRY = RetryPolicy()


class Hands:
    """A clock that goes on by itself from one call to the next."""

    def __init__(self, step_s: float) -> None:
        self._ticks: Iterator[float] = (step_s * number for number in range(1_000_000))

    def __call__(self) -> float:
        return next(self._ticks)


def test_a_word_on_a_staging_that_is_over_is_not_kept() -> None:
    ready = Readiness()
    assert ready.ask("n1", 1)
    ready.report(1, 5, 10)
    assert ready.progress(1) == (5, 10, "")
    ready.add("n1", 1)
    ready.answered(1)
    ready.report(1, 10, 10)
    assert ready.progress(1) is None
    for spec, over in ((2, lambda: ready.connected("n1", ())), (3, lambda: ready.gone("n1"))):
        assert ready.ask("n1", spec)
        ready.report(spec, 1, 10)
        over()
        assert ready.progress(spec) is None
        assert not ready.asked(spec)
    assert ready.ask("n1", 4)
    ready.report(4, 1, 10)
    ready.add("n1", 5)  # told of the same content before
    assert lengths(ready)["._progress"] == 1


def test_failures_and_guesses_of_submissions_that_were_given_up_do_not_pile_up() -> None:
    ready = Readiness()
    assert not ready.guess("n1", 0, b"same")
    ready.add("n1", 0)
    for spec in range(1, 5000):
        ready.failed(spec, 0, RETRY)
        assert ready.guess("n1", spec, b"same")
    found = lengths(ready)
    assert found["._failures"] == found["._guessed"] == found["._contents"] == 1024
    assert ready.due_ms(4999) > 0
    assert ready.is_guess("n1", 4999)
    ready.add("n1", 4999)
    assert not ready.is_guess("n1", 4999)
    ready.gone("n1")
    assert lengths(ready)["._guessed"] == 0


def test_what_is_ready_for_nobody_is_forgotten_and_what_is_waited_for_is_not() -> None:
    ready, asked = Readiness(), list[int]()

    def is_waited_for(spec: int) -> bool:
        asked.append(spec)
        return spec % 1000 == 0

    for spec in range(5000):
        ready.add("n1", spec)
        ready.tidy("n1", is_waited_for)
        if spec % 50 == 0:
            assert lengths(ready)["._ready[]"] <= 2 * (MANY_READY + 5)
    assert all(ready.has("n1", spec) for spec in range(0, 5000, 1000))
    assert ready.newest("n1", 3) == [4999, 4998, 4997]
    assert not ready.has("n1", 5)
    assert len(asked) < 2 * 5000, "a question a spec, and few more"


def test_a_deep_queue_is_not_asked_about_again_and_again() -> None:
    ready, asked = Readiness(), list[int]()

    def is_waited_for(spec: int) -> bool:
        asked.append(spec)
        return True

    for spec in range(5000):
        ready.add("n1", spec)
        assert ready.tidy("n1", is_waited_for) == 0
    assert len(asked) < 2 * 5000
    assert ready.has("n1", 0)


def test_a_machine_is_asked_again_for_what_was_forgotten_and_the_run_starts(yard: Yard) -> None:
    run = yard.submit()[0]
    spec = yard.run(run).spec_id
    yard.staged(run)
    for other in range(spec + 1, spec + 4 * MANY_READY):
        stage.staged(yard.world, "n1", other)
    assert yard.world.ready.has("n1", spec), "its run waits"
    assert lengths(yard.world)[".ready._ready[]"] <= 2 * MANY_READY + 1


def test_the_pace_of_old_classes_is_forgotten() -> None:
    pace = Pace()
    for number in range(5 * MOST_CLASSES):
        pace.note(number, 1000)
        pace.note(7, 3000)
    assert len(pace.means()) == MOST_CLASSES
    assert round(pace.means()[7]) == 3000


def test_the_summaries_of_runs_that_tell_nothing_more_leave_the_memory(yard: Yard) -> None:
    yard.join(gpus=8)
    seconds = [0.0]
    world = replace(yard.world, summing=Summing(monotonic=lambda: seconds[0]))
    quiet, busy = [yard.running() for _ in range(3)], yard.running()
    piece = block(a_series("loss", [1.0]))
    sizes = metrics.take_many(world, [(MetricKey(run, 1), 0, piece) for run in (*quiet, busy)])
    assert lengths(world)[".summing._known"] == 4
    for number in range(1, 4):
        seconds[0] += QUIET_S / 2
        metrics.take(world, MetricKey(busy, 1), number * len(piece), piece)
        assert lengths(world)[".summing._known"] == (4 if number < 3 else 1)
    metrics.take(world, MetricKey(quiet[0], 1), sizes[0], block(a_series("loss", [9.0])))
    summaries = dict(world.store.metric_summaries([quiet[0], busy]))
    assert (summaries[quiet[0]].points, summaries[quiet[0]].highest, summaries[busy].points) == (2, 9.0, 4)


def test_leases_end() -> None:
    leases = Leases(600.0, monotonic=Hands(1.0))
    for number in range(2000):
        leases.hold(f"run/{number}", "definition/again")
        assert lengths(leases)["._until"] <= 602
    with leases.letting_go("definition/again") as free:
        assert not free
    with leases.letting_go("run/1") as free:
        assert free


def test_opened_credentials_are_few_and_short_lived(yard: Yard) -> None:
    spec = yard.world.specs.get(yard.run(yard.submit()[0]).spec_id)
    opened: dict[str, Credentials] = {}
    for step_s, most in ((0.0, 8), (OPENED_S / 4, 6)):
        shelf = SpecShelf(Fakes().store, 8, monotonic=Hands(step_s))
        for number in range(100):
            shelf.credentials(replace(spec, id=number), lambda: opened)
            assert lengths(shelf)["._opened"] <= most


def test_a_question_about_caches_that_could_not_be_asked_leaves_nothing() -> None:
    caches, executor = Caches(), RecordingExecutor()
    executor.dies = True
    with pytest.raises(Crashed):
        caches.ask(executor, ["n1"], CacheAction.tell, "")
    assert lengths(caches)["._asked"] == 0
