"""From what a store or the network answered to a :class:`StoreError` whose sentence names the place, never a secret.

Bodies of refusals are not quoted: some servers repeat tokens and the text that was signed in them. Only their error
code is, which is one word.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass

from obstore.exceptions import BaseError

from runyard.stores.errors import StoreError, StoreFault

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")

_KEYS_CODES = frozenset(
    {"SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken", "TokenRefreshRequired"}
)
_REGION_CODES = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"})
_CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_LATER_CODES = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted"})

_CAUSES = (
    (
        re.compile(r"failed to lookup|dns error|name resolution|name or service not known", re.I),
        "its name cannot be resolved",
    ),
    (re.compile(r"certificate|UnknownIssuer|SelfSigned", re.I), "its TLS certificate is not trusted"),
    (
        re.compile(r"InvalidContentType|corrupt message|wrong version number|record layer", re.I),
        "it does not speak TLS",
    ),
    (re.compile(r"connection refused", re.I), "the connection was refused"),
    (re.compile(r"timed ?out|timeout", re.I), "it did not answer in time"),
    (re.compile(r"reset by peer|broken pipe|connection closed|incomplete", re.I), "the connection broke"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, to be named in a sentence: the address of the store, the bucket, and the key (or empty)."""

    address: str
    bucket: str
    key: str = ""


def of_obstore(error: Exception, asked: Asked) -> StoreError:
    """Classify what obstore raised (one of its errors, ``FileNotFoundError`` or ``ValueError``)."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    if status:
        return of_status(int(status[1]), code[1] if code else "", asked)
    if isinstance(error, BaseError):
        return unreachable(text, asked)
    return StoreError("invalid", f"The object {asked.key!r} cannot be asked for at {asked.address}.")


def of_os_error(error: OSError, asked: Asked) -> StoreError:
    """Classify an error of a socket, of TLS or of name resolution."""
    if isinstance(error, socket.gaierror):
        return unreachable("failed to lookup", asked)
    if isinstance(error, ssl.SSLCertVerificationError):
        return unreachable("certificate", asked)
    return unreachable("timed out" if isinstance(error, TimeoutError) else str(error), asked)


def unreachable(detail: str, asked: Asked) -> StoreError:
    """The store did not answer; ``detail`` is only searched for a known cause."""
    cause = next((sentence for pattern, sentence in _CAUSES if pattern.search(detail)), "the request failed")
    return StoreError("unreachable", f"The store at {asked.address} cannot be reached: {cause}.")


def of_status(status: int, code: str, asked: Asked) -> StoreError:
    """Classify an HTTP status and the code in the body of an S3 error (empty when there was none)."""
    said = code or f"status {status}"
    if status in (412, 416):
        return StoreError("changed", f"The object {asked.key!r} in {asked.bucket!r} changed since it was listed.")
    if code in _LATER_CODES or status in (408, 409, 429) or status >= 500:
        return StoreError("unreachable", f"The store at {asked.address} cannot answer now ({said}).")
    if kind_and_sentence := _definite(status, code, said, asked):
        return StoreError(*kind_and_sentence)
    return StoreError("invalid", f"The store at {asked.address} refused the request for {asked.bucket!r} ({said}).")


def _definite(status: int, code: str, said: str, asked: Asked) -> tuple[StoreFault, str] | None:
    if code in _REGION_CODES or status in (301, 307):
        return "invalid", f"The bucket {asked.bucket!r} is in another region than was said ({said}): set its region."
    if code in _CLOCK_CODES:
        return "denied", f"The store at {asked.address} refused the request: this machine's clock is wrong ({said})."
    if code in _KEYS_CODES:
        return "denied", f"The store at {asked.address} refused the credentials ({said}): check both keys."
    if status in (401, 403):
        what = f"the bucket {asked.bucket!r}" + (f", object {asked.key!r}" if asked.key else "")
        return "denied", f"The store at {asked.address} denied access to {what} ({said})."
    if code == "NoSuchBucket" or (status == 404 and not asked.key):
        return "not_found", f"There is no bucket {asked.bucket!r} at {asked.address}."
    if status == 404:
        return "not_found", f"There is no object {asked.key!r} in the bucket {asked.bucket!r} at {asked.address}."
    return None
