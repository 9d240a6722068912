"""A run without a manifest of its own: what is known of it, and the manifest that says it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from runyard.client.errors import Misuse

FIRST_LINE: Final = "# Written by `runyard run --save`."
"""What a saved manifest begins with: a file that does may be written over."""

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_SIZE: Final = re.compile(r"[0-9.]+ ?[A-Za-z]+")
_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_ESCAPED: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a manifest of `run` says. ``cpu_millis`` (1000 is one core) and ``memory`` (text with its unit) are of
    each run, None for what the service takes by default; ``framework`` is NAME or NAME:VERSION; ``data`` are buckets
    of the embedded store, BUCKET or BUCKET/PREFIX; results go to its bucket ``results``."""

    name: str
    command: str
    gpus: int = 0
    cpu_millis: int | None = None
    memory: str | None = None
    framework: str | None = None
    python: str | None = None
    data: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    tags: tuple[str, ...] = ()
    priority: int | None = None
    max_runtime: str | None = None

    def text(self) -> str:
        """The manifest, in dialect two. Raises :class:`Misuse` for text that no manifest can hold."""
        lines = [FIRST_LINE, f"name: {quoted(self.name)}", f"gpus: {self.gpus}"]
        if self.cpu_millis is not None:
            lines.append(f"cpus: {self.cpu_millis / 1000:g}")
        if self.memory is not None:
            lines.append(f"memory: {self.memory if _SIZE.fullmatch(self.memory) else quoted(self.memory)}")
        lines += [*self._stores(), "framework:"]
        if self.framework is not None:
            name, _, version = self.framework.partition(":")
            lines.append(f"  name: {quoted(name)}")
            lines += [f"  version: {json.dumps(version)}"] if version else []
        lines.append(f"  command: {_command(self.command)}")
        return "\n".join([*lines, *self._ours()]) + "\n"

    def _stores(self) -> list[str]:
        if not self.data:
            return []
        names = [each.partition("/")[0] for each in self.data]
        lines = ["data_stores:"]
        for bucket, name in zip(self.data, names, strict=True):
            called = name if names.count(name) == 1 else bucket.strip("/").replace("/", "_")
            lines += [f"  - id: {quoted(called)}", "    type: local"]
            lines.append(f"    training_data: {{container: {quoted(bucket)}}}")
        return [*lines, "    training_results: {container: results}"]

    def _ours(self) -> list[str]:
        lines: list[str] = []
        if self.python is not None:
            lines.append(f"  python: {quoted(self.python)}")
        if self.env:
            lines += ["  env:", *(f"    {quoted(name)}: {quoted(value)}" for name, value in self.env.items())]
        if self.tags:
            lines.append(f"  tags: [{', '.join(map(quoted, self.tags))}]")
        if self.priority is not None:
            lines.append(f"  priority: {self.priority}")
        if self.max_runtime is not None:
            lines.append(f"  max_runtime: {quoted(self.max_runtime)}")
        return ["runyard:", *lines] if lines else []


def quoted(text: str) -> str:
    """``text`` as a YAML scalar: plain where it can only be read as text, else between double quotes (a JSON string,
    with what YAML takes for line breaks or unprintable escaped, too). Raises :class:`Misuse` for half characters."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Misuse(
            "What is not valid text (UTF-8) cannot be in a manifest: rename it, or change the command."
        ) from None
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def _command(command: str) -> str:
    """A command as a block where it has several lines and a block holds it exactly, else as any text."""
    lines = command.split("\n")
    awkward = any(line != line.rstrip() or not line.isprintable() for line in lines)
    if len(lines) == 1 or awkward or not lines[0] or lines[0].startswith(" ") or not lines[-1]:
        return quoted(command)
    return "|-\n" + "\n".join(f"    {line}" if line else "" for line in lines)
