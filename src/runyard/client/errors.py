"""What can go wrong between a program and the service.

::

    RunyardError                 (runyard.core.errors) a sentence in ``message``, a stable word in ``code``
    └── ClientError              all that this room raises
        ├── Unreachable          nothing answered at the address, or no address is known
        ├── NotSignedIn          no token, or one that the service does not know
        ├── Refused              the service said no; ``problem`` is its whole answer
        │   ├── ManifestRefused  the manifest; ``problem.problems`` has every line and path
        │   ├── NotFound         no such thing, or not yours to see
        │   ├── Conflict         it clashes with what is there
        │   ├── AccessDenied     the token does not reach so far
        │   ├── NotInThisVersion the service does not know how yet
        │   └── Broken           the service failed at it (5xx)
        ├── PackingError         the folder or zip cannot be sent
        ├── Misuse               an argument makes no sense; nothing was sent
        ├── TransferFailed       a file did not arrive whole
        └── TimedOut             what was waited for did not happen in time
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, cast

from runyard.core.errors import Problem, RunyardError


class ClientError(RunyardError):
    """All that this room raises."""

    code = "client_error"


class Unreachable(ClientError):
    """Nothing answered at the address, or no address is known."""

    code = "unreachable"


class NotSignedIn(ClientError):
    """There is no token, or the service does not know it."""

    code = "not_signed_in"


class PackingError(ClientError):
    """The folder or zip cannot be sent as a model definition."""

    code = "packing"


class Misuse(ClientError):
    """An argument makes no sense; nothing was sent."""

    code = "misuse"


class TransferFailed(ClientError):
    """A file did not arrive whole."""

    code = "transfer_failed"


class TimedOut(ClientError):
    """What was waited for did not happen in time."""

    code = "timed_out"


@dataclass(frozen=True, slots=True)
class ProblemReport:
    """The service's answer to a request that it did not grant (RFC 9457, ``application/problem+json``).

    ``code`` is stable; ``problems`` are those of a manifest, each with its line (from 1) and path.
    """

    status: int
    code: str
    title: str
    detail: str
    problems: tuple[Problem, ...] = ()
    raw: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)


class Refused(ClientError):
    """The service said no. ``problem`` is its whole answer."""

    def __init__(self, problem: ProblemReport) -> None:
        super().__init__(self._sentence(problem), code=problem.code)
        self.problem = problem

    @classmethod
    def _sentence(cls, problem: ProblemReport) -> str:
        return problem.detail or problem.title


class ManifestRefused(Refused):
    """The manifest cannot be accepted."""

    heading: ClassVar[str] = "The manifest cannot be accepted"

    @classmethod
    def _sentence(cls, problem: ProblemReport) -> str:
        lines = [str(each) for each in problem.problems] or [problem.detail]
        return f"{cls.heading}:\n" + "\n".join(f"  {line}" for line in lines)


class NotFound(Refused):
    """There is no such thing for this account."""


class Conflict(Refused):
    """It clashes with what is there."""


class AccessDenied(Refused):
    """The token does not reach so far."""


class NotInThisVersion(Refused):
    """The service does not know how yet."""


class Broken(Refused):
    """The service failed at it: its log has the reason."""


_BY_CODE = {
    "invalid_manifest": ManifestRefused,
    "not_found": NotFound,
    "conflict": Conflict,
    "access_denied": AccessDenied,
    "not_in_this_version": NotInThisVersion,
}
_BY_STATUS = {403: AccessDenied, 404: NotFound, 501: NotInThisVersion}


def read_report(status: int, document: object) -> ProblemReport:
    """Read the body of an answer with ``status`` >= 400; ``document`` is anything (None: it was no JSON)."""
    if not isinstance(document, dict):
        return ProblemReport(status, "error", f"HTTP {status}", f"The service answered with HTTP status {status}.")
    raw = cast("dict[str, object]", document)
    listed = raw.get("problems")
    problems = tuple(_problem(each) for each in cast("list[object]", listed)) if isinstance(listed, list) else ()
    code, title, detail = (str(raw.get(key) or "") for key in ("code", "title", "detail"))
    title = title or f"HTTP {status}"
    return ProblemReport(status, code or "error", title, detail, problems, raw)


def _problem(item: object) -> Problem:
    if not isinstance(item, dict):
        return Problem(str(item))
    raw = cast("dict[str, object]", item)
    line = raw.get("line")
    return Problem(str(raw.get("message") or ""), line if isinstance(line, int) else 0, str(raw.get("path") or ""))


def _said(report: ProblemReport) -> str:
    return report.detail if report.raw else ""


def refusal(report: ProblemReport) -> ClientError:
    """The exception that an answer with status >= 400 stands for."""
    if report.status == 401:
        return NotSignedIn(_said(report) or "The service does not know this token: set RUNYARD_TOKEN to one it does.")
    if report.status >= 500 and report.status != 501:
        return Broken(report)
    kind = _BY_CODE.get(report.code) or _BY_STATUS.get(report.status) or Refused
    return kind(report)
