"""Reads pages of the documentation and runs them.

A ``bash`` block is run with ``set -eo pipefail``, all of a page's in one shell, one after the other. A ``python`` or
``yaml`` block whose first line is ``# NAME`` is a file of that name. A ``text`` block below a ``bash`` block says what
must be in its output: for each line its parts, between the ``...``, in this order in one line. Before a block,
``<!-- exit: N -->`` says which exit code its last command has, ``<!-- not run: REASON -->`` that it is only to read.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[a-z ]+): (?P<words>.+?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
MARKER = "--- block"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page. ``line``: where it begins; ``skipped``: why it is not run."""

    kind: str
    text: str
    line: int
    exit_code: int = 0
    skipped: str = ""


def blocks(page: Path) -> list[Block]:
    """All fenced blocks. Raises ``ValueError`` for a comment that means nothing."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("kind")) + 1
        mark, words = match["mark"], match["words"]
        if mark not in (None, "exit", "not run"):
            raise ValueError(f"{page.name}:{line}: there is no mark {mark!r}")
        code = int(words) if mark == "exit" else 0
        found.append(Block(match["kind"], match["text"], line, code, words if mark == "not run" else ""))
    return found


def write_files(found: list[Block], folder: Path) -> None:
    """The blocks that are files, in a page's folder."""
    for block in found:
        name = re.match(r"# ([\w.-]+\.\w+)\n", block.text)
        if block.kind in ("python", "yaml") and name is not None:
            (folder / name[1]).write_text(block.text, encoding="utf-8")


def commands(found: list[Block]) -> list[tuple[Block, str]]:
    """The blocks to run, each with the text that its output must hold."""
    pairs = zip(found, [*found[1:], Block("", "", 0)], strict=True)
    return [
        (block, after.text if after.kind == "text" else "")
        for block, after in pairs
        if block.kind == "bash" and not block.skipped
    ]


def script_of(number: int, block: Block) -> str:
    """One block: it ends the shell at its first failure, or is expected to end with a code."""
    if block.exit_code == 0:
        return f"echo '{MARKER} {number}'\nset -e\n{block.text}"
    return f"echo '{MARKER} {number}'\nset +e\n{block.text}[ $? = {block.exit_code} ] || exit 99"


def run_page(page: Path, folder: Path, prelude: str, environment: Mapping[str, str]) -> list[str]:
    """Run a page in a folder; returns what each block said. Raises ``AssertionError`` that names the block."""
    found = blocks(page)
    write_files(found, folder)
    wanted = commands(found)
    done = subprocess.run(
        ["bash", "-c", "\n".join([prelude, "set -o pipefail", *(script_of(*each) for each in numbered(wanted))])],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=170,
        check=False,
    )
    outputs = re.split(rf"^{MARKER} \d+\n", done.stdout, flags=re.M)[1:]
    last = wanted[len(outputs) - 1][0]
    assert done.returncode == 0, f"{page.name}:{last.line} ended with {done.returncode}:\n{outputs[-1]}"
    for (block, expected), output in zip(wanted, outputs, strict=True):
        for line in expected.splitlines():
            told = any(matches(line, said) for said in output.splitlines())
            assert told, f"{page.name}:{block.line} does not say {line!r} but:\n{output}"
    return outputs


def numbered(wanted: list[tuple[Block, str]]) -> list[tuple[int, Block]]:
    """The blocks with their numbers."""
    return [(number, block) for number, (block, _) in enumerate(wanted)]


def matches(line: str, said: str) -> bool:
    """Whether the parts of an expected line, between the dots, stand in a line that was said, in order."""
    at = 0
    for part in line.split("..."):
        at = said.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True
