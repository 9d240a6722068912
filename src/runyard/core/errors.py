"""The errors that Runyard tells its users.

::

    RunyardError                what is wrong and what to do, with a stable code
    ├── ManifestError           a manifest: every problem with its line and path
    ├── Refused                 a request that the rules forbid (quota of waiting runs, impossible size, ...)
    ├── NotFound                no such thing, or not yours to see
    ├── Conflict                it clashes with what is there (idempotency key, name, state)
    ├── AccessDenied            not signed in, or the token does not reach so far
    ├── StoreAway               the database does not answer
    ├── NotLeading              another server has taken over
    ├── IssuerAway              an OpenID Connect issuer that does not answer as it should
    └── StoreUnavailable        an object store that refused or could not be reached
"""

from __future__ import annotations

from dataclasses import dataclass


class RunyardError(Exception):
    """An error with a ``code`` (stable, for programs) and a ``message`` (a sentence that says what to do)."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a manifest. ``line`` counts from 1 (0: the whole text); ``path`` is like ``a.b[0].c``."""

    message: str
    line: int = 0
    path: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line else ""
        where = f"{where}, {self.path}" if where and self.path else where or self.path
        return f"{where}: {self.message}" if where else self.message


class ManifestError(RunyardError):
    """A manifest that cannot be accepted; lists all its problems at once."""

    code = "invalid_manifest"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Refused(RunyardError):
    """The request is understood and not allowed."""

    code = "refused"


class NotFound(RunyardError):
    """There is no such thing for this account."""

    code = "not_found"


class Conflict(RunyardError):
    """The request clashes with what is there."""

    code = "conflict"


class AccessDenied(RunyardError):
    """The token is missing, unknown, or does not reach so far."""

    code = "access_denied"


class StoreAway(RunyardError):
    """The database does not answer. What was to be written may or may not be."""

    code = "store_away"


class NotLeading(RunyardError):
    """Another server leads on this database: nothing was written."""

    code = "no_leader"


class IssuerAway(RunyardError):
    """The OpenID Connect issuer does not answer, or not as it should: nobody can sign in by it now."""

    code = "issuer_away"


class StoreUnavailable(RunyardError):
    """An object store did not let us in or did not answer. ``code`` tells which."""

    code = "store_unavailable"
