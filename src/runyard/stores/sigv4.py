"""AWS Signature Version 4 for requests to S3, in the ``Authorization`` header.

Source: Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote

from runyard.wire.orders import Secret

_ALGORITHM = "AWS4-HMAC-SHA256"


def sign(
    method: str,
    host: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    secret: Secret,
    region: str,
    amz_date: str,
) -> dict[str, str]:
    """All headers of the signed request but ``Host``: those given, and the ones that the signature needs.

    ``path`` is not percent-encoded yet and starts with a slash; ``amz_date`` is UTC as ``20130524T000000Z``.
    """
    payload = hashlib.sha256(body).hexdigest()
    sent = {**headers, "x-amz-date": amz_date, "x-amz-content-sha256": payload}
    if secret.session_token:
        sent["x-amz-security-token"] = secret.session_token
    signed = {name.lower(): " ".join(value.split()) for name, value in sent.items()} | {"host": host}
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        (
            method,
            encode_path(path),
            encode_query(query),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            payload,
        )
    )
    scope = f"{amz_date[:8]}/{region}/s3/aws4_request"
    text = "\n".join((_ALGORITHM, amz_date, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = b"AWS4" + secret.secret_access_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{secret.access_key_id}/{scope}"
    sent["Authorization"] = f"{_ALGORITHM} Credential={credential},SignedHeaders={names},Signature={signature}"
    return sent


def encode_path(path: str) -> str:
    """Percent-encode a path as S3 signs it: once, slashes kept."""
    return quote(path, safe="/-_.~")


def encode_query(query: Mapping[str, str]) -> str:
    """Percent-encode a query as S3 signs it: names and values encoded, then sorted."""
    return "&".join(
        f"{name}={value}"
        for name, value in sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query.items())
    )
