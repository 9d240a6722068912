"""The Python client of Runyard: typed, on the standard library alone, the same calls as the command line's.

>>> import runyard
>>> runs = runyard.train("mnist", "mnist/manifest.yml", sets=["lr=0.1,0.01"])
>>> for run in runyard.wait(runs): print(run.id, run.state)

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runyard.client.access_records import (
        Account,
        AuditEntry,
        Login,
        Member,
        NewMember,
        NewToken,
        Plan,
        Quota,
        QuotaLimits,
        SignInBegun,
        Token,
    )
    from runyard.client.account_records import (
        CachedBucket,
        Connection,
        NodeCache,
        Queue,
        QueuedRun,
        Status,
        StoredObject,
        Usage,
        UsageLine,
    )
    from runyard.client.client import Client
    from runyard.client.errors import (
        AccessDenied,
        Broken,
        ClientError,
        Conflict,
        ManifestRefused,
        Misuse,
        NotFound,
        NotInThisVersion,
        NotSignedIn,
        PackingError,
        ProblemReport,
        Refused,
        TimedOut,
        TransferFailed,
        Unreachable,
    )
    from runyard.client.metric_calls import WhichMetrics
    from runyard.client.metric_records import Metric, Metrics, NewPoints, Series
    from runyard.client.records import (
        Attempt,
        Check,
        Checked,
        Converted,
        Event,
        Explanation,
        LogChunk,
        ResultObject,
        Results,
        Run,
        StateChange,
        Submitted,
    )
    from runyard.client.run_calls import Overrides, Submission, WhichLog
    from runyard.client.running import Given, run
    from runyard.client.streams import Patience, Reconnected
    from runyard.client.training import train, wait
    from runyard.client.transport import Limits
    from runyard.core.errors import Problem, RunyardError

__all__ = [
    "AccessDenied",
    "Account",
    "Attempt",
    "AuditEntry",
    "Broken",
    "CachedBucket",
    "Check",
    "Checked",
    "Client",
    "ClientError",
    "Conflict",
    "Connection",
    "Converted",
    "Event",
    "Explanation",
    "Given",
    "Limits",
    "LogChunk",
    "Login",
    "ManifestRefused",
    "Member",
    "Metric",
    "Metrics",
    "Misuse",
    "NewMember",
    "NewPoints",
    "NewToken",
    "NodeCache",
    "NotFound",
    "NotInThisVersion",
    "NotSignedIn",
    "Overrides",
    "PackingError",
    "Patience",
    "Plan",
    "Problem",
    "ProblemReport",
    "Queue",
    "QueuedRun",
    "Quota",
    "QuotaLimits",
    "Reconnected",
    "Refused",
    "ResultObject",
    "Results",
    "Run",
    "RunyardError",
    "Series",
    "SignInBegun",
    "StateChange",
    "Status",
    "StoredObject",
    "Submission",
    "Submitted",
    "TimedOut",
    "Token",
    "TransferFailed",
    "Unreachable",
    "Usage",
    "UsageLine",
    "WhichLog",
    "WhichMetrics",
    "run",
    "train",
    "wait",
]

_HOMES = {
    "runyard.client.access_records": (
        "Account AuditEntry Login Member NewMember NewToken Plan Quota QuotaLimits SignInBegun Token"
    ),
    "runyard.client.account_records": (
        "CachedBucket Connection NodeCache Queue QueuedRun Status StoredObject Usage UsageLine"
    ),
    "runyard.client.client": "Client",
    "runyard.client.errors": (
        "AccessDenied Broken ClientError Conflict ManifestRefused Misuse NotFound NotInThisVersion NotSignedIn "
        "PackingError ProblemReport Refused TimedOut TransferFailed Unreachable"
    ),
    "runyard.client.metric_calls": "WhichMetrics",
    "runyard.client.metric_records": "Metric Metrics NewPoints Series",
    "runyard.client.records": (
        "Attempt Check Checked Converted Event Explanation LogChunk ResultObject Results Run StateChange Submitted"
    ),
    "runyard.client.run_calls": "Overrides Submission WhichLog",
    "runyard.client.running": "Given run",
    "runyard.client.streams": "Patience Reconnected",
    "runyard.client.training": "train wait",
    "runyard.client.transport": "Limits",
    "runyard.core.errors": "Problem RunyardError",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'runyard.client' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
