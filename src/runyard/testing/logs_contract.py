"""The contract of the log store, as tests: subclass :class:`LogStoreContract` and give it a ``make`` fixture."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runyard.ports.logs import LogKey, LogStore

KEY = LogKey("training-a1B2c3D4e", 1)
SLACK_MS = 50
"""How far the time of bytes may be off."""

# The fixture only makes: every example makes a store of its own. The tests are meant to be inherited more than once.
_SHARED = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)
_TEXT = bytes(range(256)) * 4
_APPENDS = st.lists(st.tuples(st.integers(0, len(_TEXT)), st.integers(0, 400)), max_size=40)


class LogStoreContract:
    """All that any log store must do."""

    @pytest.fixture
    def make(self) -> Callable[[], LogStore]:
        """What makes an empty log store; closed again by whoever made it."""
        raise NotImplementedError("a subclass says which log store is tested")

    @pytest.fixture
    def logs(self, make: Callable[[], LogStore]) -> LogStore:
        """An empty log store."""
        return make()

    def test_what_is_appended_is_read(self, logs: LogStore) -> None:
        """From any offset, at most as much as is asked for."""
        assert logs.append(KEY, 0, b"hello ", 1000) == 6
        assert logs.append(KEY, 6, b"world\n", 1001) == 12
        assert logs.size(KEY) == 12
        assert logs.read(KEY, 0, 100) == b"hello world\n"
        assert logs.read(KEY, 3, 5) == b"lo wo"
        assert logs.read(KEY, 12, 5) == b""
        assert logs.read(KEY, 100, 5) == b""
        assert logs.read(KEY, 0, 0) == b""

    def test_nothing_is_there_before_the_first_byte(self, logs: LogStore) -> None:
        """Of any stream."""
        assert logs.size(KEY) == 0
        assert logs.read(KEY, 0, 10) == b""
        assert logs.offset_at(KEY, 0) == 0
        logs.delete(KEY.run_id)

    def test_what_is_there_is_skipped(self, logs: LogStore) -> None:
        """Sent again, sent again with more, sent again in part."""
        logs.append(KEY, 0, b"0123456789", 1)
        assert logs.append(KEY, 0, b"0123456789", 2) == 10
        assert logs.append(KEY, 5, b"56789ab", 3) == 12
        assert logs.append(KEY, 3, b"345", 4) == 12
        assert logs.append(KEY, 12, b"", 5) == 12
        assert logs.read(KEY, 0, 100) == b"0123456789ab"

    def test_a_gap_writes_nothing(self, logs: LogStore) -> None:
        """The answer tells from where to go on."""
        assert logs.append(KEY, 5, b"later", 1) == 0
        logs.append(KEY, 0, b"abc", 2)
        assert logs.append(KEY, 4, b"e", 3) == 3
        assert logs.read(KEY, 0, 100) == b"abc"

    def test_streams_do_not_mix(self, logs: LogStore) -> None:
        """Attempts, learners and names part them; attempt 0 is one too."""
        keys = [
            LogKey(run, attempt, learner, stream)
            for run in ("training-a1B2c3D4e", "training-a1B2c3D4f")
            for attempt in (0, 1, 2)
            for learner in (1, 2)
            for stream in ("training-log", "load-data", "load-model")
        ]
        for key in keys:
            logs.append(key, 0, repr(key).encode(), 1)
        for key in keys:
            assert logs.read(key, 0, 1000) == repr(key).encode()

    def test_a_deleted_run_is_gone_and_another_is_not(self, logs: LogStore) -> None:
        """It may begin again at 0."""
        other = LogKey("training-a1B2c3D4f", 1)
        for key in (KEY, LogKey(KEY.run_id, 2, 3, "load-data"), other):
            logs.append(key, 0, b"text", 1)
        logs.delete(KEY.run_id)
        logs.delete(KEY.run_id)
        assert (logs.size(KEY), logs.size(other)) == (0, 4)
        assert logs.offset_at(KEY, 0) == 0
        assert logs.append(KEY, 0, b"new", 9) == 3
        assert logs.read(KEY, 0, 9) == b"new"

    def test_times_lead_to_offsets(self, logs: LogStore) -> None:
        """Nothing that came at the time or later is missed; what came earlier by more than the slack is left out."""
        for number in range(100):
            logs.append(KEY, number * 10, b"line %04d\n" % number, 10_000 + number * 100)
        assert logs.offset_at(KEY, 0) == 0
        assert logs.offset_at(KEY, 10_000) == 0
        assert logs.offset_at(KEY, 10_100) == 10
        assert logs.offset_at(KEY, 15_000) == 500
        assert logs.offset_at(KEY, 14_960) == 500
        assert logs.offset_at(KEY, 19_900) == 990
        assert logs.offset_at(KEY, 20_000) == 1000

    @settings(suppress_health_check=_SHARED, deadline=None, max_examples=60)
    @given(gaps=st.lists(st.integers(0, 120), min_size=1, max_size=60), asked=st.integers(0, 8000))
    def test_the_offset_of_a_time_is_within_the_slack(
        self, make: Callable[[], LogStore], gaps: list[int], asked: int
    ) -> None:
        """Whatever the pauses between appends."""
        logs = make()
        came: list[int] = []
        for gap in gaps:
            came.append((came[-1] if came else 1000) + gap)
            logs.append(KEY, len(came) - 1, b"x", came[-1])
        offset = logs.offset_at(KEY, asked)
        assert all(time < asked for time in came[:offset])
        assert offset == len(came) or came[offset] > asked - SLACK_MS

    @settings(suppress_health_check=_SHARED, deadline=None, max_examples=100)
    @given(appends=_APPENDS)
    def test_any_order_of_appends_gives_the_text_once(
        self, make: Callable[[], LogStore], appends: list[tuple[int, int]]
    ) -> None:
        """Overlaps and gaps as they come: what is there is always the beginning of the text, and never shrinks."""
        logs = make()
        size = 0
        for at_ms, (offset, length) in enumerate(appends):
            now = logs.append(KEY, offset, _TEXT[offset : offset + length], at_ms)
            assert now == (max(size, min(offset + length, len(_TEXT))) if offset <= size else size)
            assert now == logs.size(KEY)
            size = now
        assert logs.read(KEY, 0, len(_TEXT) + 1) == _TEXT[:size]

    def test_two_senders_at_once_give_the_text_once(self, logs: LogStore) -> None:
        """As when a connection is given up and made again while the old one still delivers."""

        def send(step: int) -> None:
            offset = 0
            while offset < len(_TEXT):
                offset = logs.append(KEY, offset, _TEXT[offset : offset + step], 5)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send, (3, 7, 11, 64)))
        assert logs.read(KEY, 0, 2 * len(_TEXT)) == _TEXT
