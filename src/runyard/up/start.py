"""``runyard up``: server and node on this machine, in the foreground or detached."""

from __future__ import annotations

import math
import os
import socket
import subprocess
from pathlib import Path
from typing import Final

from runyard import settings
from runyard.cli.options import UpOptions
from runyard.core.errors import RunyardError
from runyard.core.house import users_words
from runyard.up import record, tokens
from runyard.up.forking import Image
from runyard.up.reach import protect, url_of
from runyard.up.say import answer, say
from runyard.up.supervise import Child, Supervisor, python
from runyard.up.tls import Tls, trusted_by

POSTGRES: Final = ("runyard.standby", "sqlalchemy.dialects.postgresql.psycopg")
"""What a server on PostgreSQL imports beside."""


def up(options: UpOptions) -> int:
    """Start the installation. Returns the exit code: 0 when it runs (detached) or has been stopped, 4 when refused."""
    home = Path(options.home).expanduser().absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    running = record.read(home)
    if running is not None:
        say(f"Runyard runs already at {running.url} (home {home}): `runyard down` stops it.")
        return 0
    try:
        protected = protect(home, options, settings.load(home))
        listening = listen(options.host, options.port)
    except RunyardError as error:
        say(error.message)
        return 4
    if options.detach:
        return _detach(home, options, listening, protected)
    return foreground(home, options, listening)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket: kept open over restarts of the server, so that no request is ever refused meanwhile."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        text = f"Cannot listen on {host} port {port} ({error.strerror}): choose another with --port, or 0 for any."
        raise RunyardError(text) from None


def _children(home: Path, options: UpOptions, listening: socket.socket, protected: Tls | None) -> list[Child]:
    logs = home / "log"
    logs.mkdir(exist_ok=True, mode=0o700)
    (home / "node").mkdir(exist_ok=True, mode=0o700)
    owner, node = tokens.ensure(home / "token"), tokens.ensure(home / "node" / "token")
    server = ["--home", str(home), "--fd", str(listening.fileno()),
              "--owner-digest", owner.digest, "--owner-hint", owner.hint,
              "--node-digest", node.digest, "--node-hint", node.hint,
              "--url", url_of(listening, protected), *_served(protected)]  # fmt: skip
    there = _node_words(home, options, url_of(listening, protected), protected)
    # The node first: forked before the server's libraries are here, it does not hold them, and is ready when the
    # server answers. Its first request waits in the listening socket's queue.
    on_postgres = (settings.load(home).store_url or "").startswith("postgres")
    return [
        Child("node", "runyard.node", there, logs / "node.log", image=Image("runyard.node.main")),
        Child("server", "runyard.server", server, logs / "server.log", (listening.fileno(),),
              Image("runyard.server", POSTGRES if on_postgres else ())),
    ]  # fmt: skip


def _served(protected: Tls | None) -> list[str]:
    if protected is None:
        return []
    argv = ["--certificate", str(protected.certificate), "--key", str(protected.key)]
    return argv if protected.authority is None else [*argv, "--authority", str(protected.authority)]


def _node_words(home: Path, options: UpOptions, url: str, protected: Tls | None) -> list[str]:
    chosen = settings.load(home)
    argv = ["--home", str(home / "node")]
    argv += ["--server", ",".join((url, *chosen.other_urls))]
    argv += ["--name", socket.gethostname(), "--token-file", str(home / "node" / "token")]
    argv += ["--gpus", options.gpus, "--slots-per-gpu", str(options.slots_per_gpu), "--uid-base", str(chosen.uid_base)]
    argv += ["--cache-limit", str(max(1, round(chosen.cache_gib * 1024)))]
    disk_mib = math.ceil(chosen.disk_limit_gib * 1024)
    argv += ["--log-limit", str(chosen.log_limit_mib), "--disk-limit", str(disk_mib)]
    argv += ["--workdir-limit", str(chosen.workdir_limit_mib)]
    argv += ["--reserve", str(round(chosen.node_reserve_gib * 1024))]
    argv += ["--gpu-strangers", str(chosen.gpu_strangers_mib)]
    argv += [] if chosen.gpu_errors else ["--ignore-gpu-errors"]
    if protected is not None:
        own = ["--server-certificate", str(protected.certificate)]
        argv += own if protected.authority is None else ["--server-authority", str(protected.authority)]
    if chosen.ca_file is not None:
        argv += ["--ca-file", chosen.ca_file]
    if options.fake_gpus is not None:
        argv += ["--fake-gpus", str(options.fake_gpus)]
    for path in (str(home), *([] if chosen.shared_folder is None else [chosen.shared_folder])):
        argv += ["--private", path]
    argv += [f"--allow-system-call={name}" for name in chosen.allow_system_calls]
    for path in chosen.host_paths:
        argv += ["--host-path", path]
    argv += ["--container-engine", chosen.container_engine]
    argv += ["--users", users_words(chosen.users), *([] if chosen.private_tmp else ["--shared-tmp"])]
    argv += [f"--pip-option={word}" for word in chosen.pip_options]
    argv += [f"--python-allowed={pattern}" for pattern in chosen.pythons or ("",)]
    if chosen.pip_source_builds:
        argv += ["--pip-source-builds"]
    return argv


def foreground(home: Path, options: UpOptions, listening: socket.socket) -> int:
    """Supervise server and node until told to stop."""
    held = record.lock(home)
    if held is None:
        say(f"Another `runyard up` is just starting in {home}: wait for it.")
        return 4
    chosen = settings.load(home)
    protected = protect(home, options, chosen)
    url = url_of(listening, protected)
    record.write(home, url)
    if chosen.ca_file is not None:
        os.environ["SSL_CERT_FILE"] = chosen.ca_file  # for server and node alike
    supervisor = Supervisor(_children(home, options, listening, protected))
    say(f"Runyard at {url} (home {home}); Ctrl-C stops it, programs go on.")
    if protected is not None and protected.fingerprint:
        say(f"Elsewhere: runyard login https://HOST:{listening.getsockname()[1]} --fingerprint {protected.fingerprint}")
    try:
        supervisor.run()
    finally:
        (home / "up.json").unlink(missing_ok=True)
        os.close(held)
    return 0


def _detach(home: Path, options: UpOptions, listening: socket.socket, protected: Tls | None) -> int:
    fd = listening.fileno()
    argv = [*python(), "-m", "runyard.up.detached", "--home", str(home), "--fd", str(fd)]
    argv += ["--gpus", options.gpus, "--slots-per-gpu", str(options.slots_per_gpu)]
    if options.fake_gpus is not None:
        argv += ["--fake-gpus", str(options.fake_gpus)]
    argv += [f"--{name}" for name in ("tls", "insecure") if getattr(options, name)]
    logs = home / "log"
    logs.mkdir(exist_ok=True, mode=0o700)
    with (logs / "up.log").open("ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(fd,), start_new_session=True
        )
    # For start-up: loaded while the supervisor loads what it needs, too.
    from runyard.up.readiness import wait_ready  # noqa: PLC0415

    url, port = url_of(listening, protected), listening.getsockname()[1]
    listening.close()
    token = home / "token"
    problem = wait_ready(home, url, process, trusted_by(protected))
    if problem is not None:
        say(f"{problem} See {logs}/server.log and {logs}/node.log.")
        process.terminate()
        return 4
    answer(url)
    say(f"Runyard is up (home {home}, token in {token}). `runyard down` stops it.")
    if protected is not None and protected.fingerprint:
        say(f"Elsewhere: runyard login https://HOST:{port} --fingerprint {protected.fingerprint}")
    return 0
