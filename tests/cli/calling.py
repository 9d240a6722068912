"""Calling the installed entry points as people do: a process of their own, its output in pipes or on a terminal."""

import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass
class Cli:
    """The command line with a home, an address and a token of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ}
        home = {"RUNYARD_HOME": str(self.folder / "home"), "HOME": str(self.folder), "COLUMNS": "100"}
        return kept | home | self.environment

    def start(self, *words: str, program: str = "runyard", **more: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(BIN / program), *words],
            cwd=self.folder,
            env=self.env(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,  # type: ignore[call-overload]
        )

    def __call__(
        self, *words: str, program: str = "runyard", stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        with self.start(*words, program=program) as process:
            out, err = process.communicate(stdin, timeout=60)
            return subprocess.CompletedProcess(words, process.returncode, out, err)

    def on_terminal(self, *words: str, seconds: float = 60) -> tuple[int, str]:
        """Exit code and everything written, with a terminal for all three streams."""
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [str(BIN / "runyard"), *words],
            cwd=self.folder,
            env=self.env() | {"TERM": "xterm"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        text = b""
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                if select.select([leader], [], [], 0.1)[0]:
                    try:
                        chunk = os.read(leader, 65536)
                    except OSError:  # the last writer is gone (Linux says EIO)
                        break
                    text += chunk
                elif process.poll() is not None:
                    break
            return process.wait(5), text.decode()
        finally:
            os.close(leader)
            if process.poll() is None:
                process.kill()
                process.wait()
