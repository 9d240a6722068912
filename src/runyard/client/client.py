"""The client: every call of the service's interface, and the iterators that follow what goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from runyard.client.access_calls import AccessCalls
from runyard.client.account_calls import AccountCalls
from runyard.client.address import Address, find_address
from runyard.client.data_calls import DataCalls
from runyard.client.framework_calls import FrameworkCalls
from runyard.client.later import Later
from runyard.client.metric_calls import EVERYTHING, MetricCalls, WhichMetrics
from runyard.client.records import Event, LogChunk, Run, StateChange
from runyard.client.room_calls import RoomCalls
from runyard.client.run_calls import RunCalls, WhichLog
from runyard.client.secret_calls import SecretCalls
from runyard.client.share_calls import ShareCalls
from runyard.client.transport import Limits, Transport, path_of

if TYPE_CHECKING:
    from runyard.client import streams, waiting
    from runyard.client.metric_records import NewPoints
    from runyard.client.streams import Patience, Reconnected
else:
    streams, waiting = Later("runyard.client.streams"), Later("runyard.client.waiting")


class Client(
    RunCalls,
    DataCalls,
    AccountCalls,
    AccessCalls,
    ShareCalls,
    RoomCalls,
    SecretCalls,
    MetricCalls,
    FrameworkCalls,
):
    """A connection to a service.

    ``url`` and ``token`` default to RUNYARD_URL and RUNYARD_TOKEN, then ML_ENV with ML_USERNAME and ML_PASSWORD, then
    the context that `runyard login` made, then what ``runyard up`` left in its home; ``address`` is one that was found
    already. Safe to use from several threads. Errors: :mod:`runyard.client.errors`.

    >>> client = Client()
    >>> for run in client.runs(states=["running"]): print(run.id, run.name)
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        limits: Limits | None = None,
        patience: Patience | None = None,
        agent: str = "sdk",
        address: Address | None = None,
    ) -> None:
        super().__init__(Transport(address or find_address(url, token), limits, agent))
        self._patience = patience

    @property
    def url(self) -> str:
        """The address it talks to, without credentials."""
        return self._transport.address.url

    def close(self) -> None:
        """Close the kept connections. The client can still be used afterwards."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def _bearing(self) -> Patience:
        return self._patience or streams.Patience()

    def follow(self, run: str | Run, which: WhichLog | None = None) -> Iterator[LogChunk | StateChange]:
        """A run's log as it grows, with its changes of state in between, until the log is complete. Goes on into the
        next attempt, and over restarts of the service, without losing or repeating a byte."""
        run_id = self.resolve(run.id if isinstance(run, Run) else run)[0]
        query = {**(which or WhichLog()).query(), "follow": True}
        path = path_of("training-runs", run_id, "logs")
        return streams.log_events(self._transport, path, run_id, query, self._bearing())

    def follow_metrics(self, run: str | Run, which: WhichMetrics = EVERYTHING) -> Iterator[NewPoints | StateChange]:
        """A run's points as they are measured, those that are there first, with its changes of state in between, until
        it is final; over restarts of the service, without losing or repeating a point."""
        run_id = self.resolve(run.id if isinstance(run, Run) else run)[0]
        path = path_of("training-runs", run_id, "metrics")
        return streams.metric_events(self._transport, path, run_id, which.query(), self._bearing())

    def events(self, after: int | None = None, *, deadline: float | None = None) -> Iterator[Event | Reconnected]:
        """The account's events with a sequence number above ``after`` (from now on, without one), for ever, as they
        happen; a :class:`Reconnected` tells where the connection was lost in between (nothing is missed).

        ``deadline``: a time of ``time.monotonic`` after which :class:`TimedOut` is raised.
        """
        return streams.account_events(self._transport, after, self._bearing(), deadline)

    def wait(
        self,
        runs: str | Run | Sequence[str | Run],
        timeout: float | None = None,
        *,
        on_change: Callable[[Run, Event | None], None] | None = None,
    ) -> list[Run]:
        """Wait until all are final. ``runs``: ids, selectors such as ``last`` or ``tag:NAME``, or runs; ``timeout`` in
        seconds, then :class:`TimedOut`. ``on_change`` hears each run at first (with None) and then its events."""
        several = [runs] if isinstance(runs, str | Run) else list(runs)
        ids = [found for each in several for found in ((each.id,) if isinstance(each, Run) else self.resolve(each))]
        return waiting.wait_for(self, list(dict.fromkeys(ids)), timeout, on_change)
