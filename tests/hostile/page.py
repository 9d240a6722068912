"""Writes docs/hostile.md from the rows that the tests feed: ``python -m tests.hostile.page``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.hostile.table import CASES, ZIPS

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "hostile.md"
_HEAD: Final = """# Hostile input

What comes from outside is not believed: manifests, bodies, addresses, tokens, zips, and what a machine tells. These are
{count} inputs that mean harm, or look so, and what each is answered. `python -m tests.hostile.page` writes this page
from the rows of `tests/hostile/`, and a test compares them.

Each row is sent to a real server process. Asserted of each: status, `code` and the words of the sentence below (and
line and path, for manifests); that no table of the database and no file of the server is other afterwards, except
where the row says what is kept; and that the server has never had 300 MiB of memory resident. No answer is a 5xx but
for "not in this version". Meanings of the codes stand in [errors.md](errors.md).

What holds it: bodies have a limit by address and are counted together ([limits](api.md#limits-of-requests)); lists of
JSON are counted before they are decoded; YAML is read event by event within bounds; half requests are cut off after
20 s, bodies that stop after 60 s; a zip's directory is counted before it is read, and its bytes as they come out.
"""
_RUNS: Final = """## Fuzzing

`python -m bench.fuzz --minutes 30` feeds the manifest parser, the zip unpacker and the other readers of strangers'
bytes under atheris (libFuzzer, guided by coverage), from the seeds in `tests/fuzz/corpus/`. What was found once lies in
`tests/fuzz/found/` and is fed with every run of the suite. `python -m bench.schema` is Schemathesis over the whole
OpenAPI document with a real server: every check of every operation. What JSON Schema has no words for (manifests,
durations, paths in a manifest) is a format in the document, for which `bench/schema_hooks.py` draws valid texts.
"""


def render() -> str:
    """The page."""
    parts = [_HEAD.format(count=len(CASES) + len(ZIPS)), _RUNS]
    kinds = list(dict.fromkeys(case.kind for case in CASES))
    for kind in kinds:
        parts.append(f"## {kind[0].upper()}{kind[1:]}\n\n| what | answer | says | kept |\n|---|---|---|---|")
        for case in CASES:
            if case.kind == kind:
                answer = "cut off" if case.status == 0 else f"{case.status} {_code(case.code)}".strip()
                where = f" (line {case.line})" if case.line is not None else ""
                parts[-1] += f"\n| {_cell(case.what)} | {answer} | {_cell(case.words)}{where} | {case.kept or ''} |"
    parts.append(
        "## Zip\n\nKept by the server as any other bytes; a run made of one fails with the reason `code_invalid`."
    )
    parts[-1] += "\n\n| what | says |\n|---|---|"
    for row in ZIPS:
        parts[-1] += f"\n| {_cell(row.what)} | {_cell(row.words)} |"
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _code(code: str) -> str:
    return f"`{code}`" if code else ""


def _cell(text: str) -> str:
    shown = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return shown.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
