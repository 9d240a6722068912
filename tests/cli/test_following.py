"""Following one run: its log and the sentences between, in two streams or in one."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.calling import BIN, Cli
from tests.client.api_server import ApiServer
from tests.support.waiting import wait_until

PLAYED = ("one", "half a line", "RUN: storing (quota)", "last")


def into_one_file(server: ApiServer, cli: Cli, play: Callable[[str, Callable[[str], None]], None]) -> str:
    """What following a running run writes where both streams are one file. ``play``: what
    becomes of the run, given it and a way to wait for something in that file."""
    run = server.add_run()
    server.move(run, "starting")
    server.move(run, "running")
    page: Path = cli.folder / "page"
    words = [str(BIN / "runyard"), "monitor", "training-runs", run, "logs"]

    def until(text: str) -> None:
        wait_until(lambda: text in page.read_text(), repr(text))

    with page.open("wb") as file:
        command = subprocess.Popen(words, cwd=cli.folder, env=cli.env(), stdout=file, stderr=subprocess.STDOUT)
        try:
            play(run, until)
            command.wait(30)
        finally:
            command.kill()
            command.wait()
    return page.read_text().replace(run, "RUN")


def test_a_sentence_waits_for_the_end_of_a_half_written_line(server: ApiServer, cli: Cli) -> None:
    def play(run: str, until: Callable[[str], None]) -> None:
        server.print_log(run, "one\nhalf")
        until("half")
        server.move(run, "storing")
        server.print_log(run, " a line\nlast\n")
        until("last")
        server.move(run, "completed")

    written = into_one_file(server, cli, play).splitlines()
    assert [line for line in written if line in PLAYED] == list(PLAYED)


def test_what_ends_without_the_end_of_a_line_leaves_the_last_sentences_lines_of_their_own(
    server: ApiServer, cli: Cli
) -> None:
    def play(run: str, until: Callable[[str], None]) -> None:
        server.print_log(run, "half")
        until("half")
        server.move(run, "stopping")
        server.move(run, "canceled")

    written = into_one_file(server, cli, play).splitlines()
    assert "half" in written
    assert any(line.startswith("RUN: canceled") for line in written)


@pytest.mark.parametrize("log", ["half", "whole\n"])
def test_two_streams_are_what_they_are(server: ApiServer, cli: Cli, log: str) -> None:
    run = server.add_run()
    server.live(run, log=log)
    done = cli("monitor", "training-runs", run, "logs")
    assert (done.returncode, done.stdout) == (0, log)
    assert "\n\n" not in done.stderr


def test_on_a_terminal_a_sentence_begins_a_line_at_once(server: ApiServer, cli: Cli) -> None:
    run = server.add_run()
    server.live(run, log="10 %")
    code, text = cli.on_terminal("monitor", "training-runs", run, "logs")
    assert code == 0
    assert "10 %\r\n" in text
