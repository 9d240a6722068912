"""Signing in to a service elsewhere: whom to trust there, and whether the token is good."""

from __future__ import annotations

from hashlib import sha256
from http.client import HTTPException, HTTPSConnection

from runyard.client.account_records import Status
from runyard.client.address import Address, address_of
from runyard.client.client import Client
from runyard.client.contexts import Named
from runyard.client.errors import Misuse, Unreachable

MOST_PEM = 64 * 1024
_PATIENCE_S = 10.0


def is_trusted(url: str) -> bool:
    """Whether a service's certificate is of an authority that this machine trusts anyway (or it speaks plain HTTP).
    Raises :class:`Unreachable` when nothing answers there."""
    address = address_of(Named("", url))
    if address.scheme == "http":
        return True
    import ssl  # noqa: PLC0415  # for start-up: only https needs it

    known = ssl.create_default_context()
    connection = HTTPSConnection(address.host, address.port, timeout=_PATIENCE_S, context=known)
    try:
        connection.connect()
    except ssl.SSLCertVerificationError:
        return False
    except OSError as error:
        raise _away(address, error) from None
    finally:
        connection.close()
    return True


def authority_of(url: str) -> tuple[str, str]:
    """What a service says is its authority, as PEM, and its fingerprint: to be compared before it is believed.

    Raises :class:`Unreachable` when there is none to be had.
    """
    import ssl  # noqa: PLC0415  # for start-up: only https needs it

    address = address_of(Named("", url))
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname = False
    anything.verify_mode = ssl.CERT_NONE  # nothing secret is sent; what comes is compared with the fingerprint
    connection = HTTPSConnection(address.host, address.port, timeout=_PATIENCE_S, context=anything)
    try:
        connection.request("GET", f"{address.base}/api/authority.pem")
        response = connection.getresponse()
        content = response.read(MOST_PEM)
    except (OSError, HTTPException) as error:
        raise _away(address, error) from None
    finally:
        connection.close()
    try:
        if response.status != 200:
            raise ValueError
        pem = content.decode("ascii")
        return pem, sha256(ssl.PEM_cert_to_DER_cert(pem.strip())).hexdigest()
    except ValueError:
        raise Unreachable(
            f"The certificate of {address.url} is not trusted here, and the service hands out no authority of its own: "
            "name its authority in SSL_CERT_FILE."
        ) from None


def _away(address: Address, error: Exception) -> Unreachable:
    return Unreachable(f"{address.url} cannot be reached ({error or type(error).__name__}): check the address.")


def plain_fingerprint(text: str) -> str:
    """A fingerprint without what people put around it. Raises :class:`Misuse` when it is none."""
    plain = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if len(plain) != 64 or not set(plain) <= set("0123456789abcdef"):
        raise Misuse("A fingerprint has 64 hexadecimal digits: `runyard up` prints it on the service's machine.")
    return plain


def sign_in(one: Named) -> Status:
    """Try a context. Raises :class:`NotSignedIn` for a token that the service does not know."""
    with Client(address=address_of(one)) as client:
        return client.status()


def token_for(one: Named, account: str, member: str, password: str) -> str:
    """A token for some hours, for a password. Raises :class:`NotSignedIn` when it is wrong, or after too many tries."""
    with Client(address=address_of(one)) as client:
        return client.login(account, member, password).token
