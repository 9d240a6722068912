"""Calls over a real connection: kept, cut, retried, and told apart by what may be sent twice."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from runyard.client import Client, Limits
from runyard.client.errors import AccessDenied, Broken, ManifestRefused, NotFound, NotSignedIn, Unreachable
from runyard.client.run_calls import Submission
from tests.client.api_server import TOKEN, ApiServer

QUICK = Limits(connect=2, read=5, tries=4, first_pause=0.01)


def test_connections_are_kept(server: ApiServer, client: Client) -> None:
    for _ in range(5):
        client.status()
    assert len(server.connections) == 1


def test_a_kept_connection_that_the_service_closed_is_replaced(server: ApiServer, client: Client) -> None:
    client.status()
    server.stop()
    server.start()
    assert client.status().account == "default"


def test_a_submission_whose_answer_was_lost_is_sent_again_and_makes_its_runs_once(
    server: ApiServer, client: Client
) -> None:
    sha = "0" * 64
    server.state.definitions[sha] = b""
    server.drop = 2
    submitted = client.submit(Submission("name: x", sha, parameters=[{"lr": 0.1}, {"lr": 0.2}]))
    assert len(server.asked("POST", "/api/v1/training-runs")) == 3
    assert list(server.state.runs) == list(submitted.ids)
    assert submitted.replayed


def test_what_may_not_be_sent_twice_is_not(server: ApiServer, client: Client) -> None:
    server.drop = 1
    with pytest.raises(Unreachable):
        client.add_token("mine")
    assert len(server.asked("POST", "/api/v1/tokens")) == 1
    assert client.add_token("mine").token


def test_a_deletion_whose_answer_was_lost_is_done(server: ApiServer, client: Client) -> None:
    run = server.add_run(state="completed")
    server.drop = 1
    client.delete(run)
    assert server.state.runs == {}


def test_a_service_that_is_just_starting_is_asked_again(server: ApiServer, client: Client) -> None:
    server.unavailable = 2
    assert client.status().account == "default"


def test_a_service_that_stays_unavailable_is_told(server: ApiServer, client: Client) -> None:
    server.unavailable = 100
    with pytest.raises(Broken, match="503"):
        client.status()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(Unreachable, match=r"Nothing answers.*runyard up"):
        Client(f"http://127.0.0.1:{port}", TOKEN, limits=QUICK).status()


def test_an_unknown_host() -> None:
    with pytest.raises(Unreachable, match="not known"):
        Client("http://no-such-host.invalid", TOKEN, limits=QUICK).status()


def test_somebody_who_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", TOKEN, limits=Limits(read=0.05, tries=1))
        with pytest.raises(Unreachable, match="did not answer in time"):
            client.status()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 302 F\r\nLocation: /\r\n\r\n",
    ],
)
def test_somebody_else_answers(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(Unreachable):
            Client(f"http://127.0.0.1:{port}", TOKEN, limits=Limits(tries=1, read=5)).status()
        thread.join()


def test_a_wrong_token(server: ApiServer) -> None:
    with pytest.raises(NotSignedIn, match="token is not known"):
        Client(server.url, "wrong").status()
    with pytest.raises(NotSignedIn):
        Client(server.url).has_definition("0" * 64)


def test_a_user_and_password_of_the_older_service(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ENV", server.url)
    monkeypatch.setenv("ML_USERNAME", "someone")
    monkeypatch.setenv("ML_PASSWORD", TOKEN)
    assert Client().status().member == "owner"


def test_problems_are_told_apart(server: ApiServer, client: Client) -> None:
    with pytest.raises(NotFound) as missing:
        client.run("training-unknown00")
    assert missing.value.problem.status == 404
    problems = [{"message": "This key is unknown.", "line": 3, "path": "a.b"}]
    server.refusal = (422, {"code": "invalid_manifest", "detail": "line 3, a.b: unknown", "problems": problems})
    with pytest.raises(ManifestRefused) as refused:
        client.submit(Submission("x"))
    assert refused.value.code == "invalid_manifest"
    assert refused.value.message == "The manifest cannot be accepted:\n  line 3, a.b: This key is unknown."
    server.refusal = (403, {"code": "access_denied", "detail": "This needs an administrator's token."})
    with pytest.raises(AccessDenied, match="administrator"):
        client.submit(Submission("x"))


def test_a_large_body_that_is_refused_early_says_why() -> None:
    problem = b'{"code": "too_large", "status": 413, "title": "Too large", "detail": "The zip is too large."}'
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            connection.recv(1000)
            head = f"HTTP/1.1 413 Too Large\r\nContent-Length: {len(problem)}\r\nConnection: close\r\n\r\n".encode()
            connection.sendall(head + problem)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):  # a server drains what is under way, else its answer is lost with a reset
                pass
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        client = Client(f"http://127.0.0.1:{listening.getsockname()[1]}", TOKEN, limits=QUICK)
        with pytest.raises(Exception, match="The zip is too large"):
            client.put_object("b", "k", b"x" * 5_000_000)
        thread.join()


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8, plain = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    (folder / "both.pem").write_bytes(made.public_bytes(pem) + key.private_bytes(pem, pkcs8, plain))
    return folder / "both.pem"


def test_https_trusts_what_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ApiServer()
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(certificate(tmp_path))
    with server:
        with pytest.raises(Unreachable, match="SSL_CERT_FILE"):
            Client(server.url, TOKEN, limits=QUICK).status()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "both.pem"))
        with Client(server.url, TOKEN, limits=QUICK) as client:
            assert client.status().account == "default"
            run = server.add_run()
            server.live(run)
            assert client.wait(run)[0].state == "completed"
            assert client.log(run) == b"hello\n"


def test_several_threads_share_a_client(server: ApiServer, client: Client) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(client.status().account)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == ["default"] * 8


def test_a_client_never_shows_its_token(server: ApiServer, client: Client) -> None:
    assert TOKEN not in repr(client)
    assert TOKEN not in repr(vars(client))
