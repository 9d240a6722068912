"""GNU parallel: a process a run, no queue that outlives it."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
desk = import_module("desk")
PROGRAM = Path(__file__).resolve().parents[2] / ".bench" / "debian" / "usr" / "bin" / "parallel"


class Parallel(desk.Peer):  # type: ignore[name-defined]  # found by its path
    def many(self, python: str, script: str, words: list[str], count: int) -> list[str]:
        number = [] if "stamp" in script else ["--n", "{}"]
        command = [str(PROGRAM), "--will-cite", f"-j{desk.SLOTS}", "--tag", python, script, *words, *number]
        if "stamp" in script:
            command.append("#{}")
        numbers = "\n".join(str(each) for each in range(count))
        done = subprocess.run(command, input=numbers, stdout=subprocess.PIPE, text=True, check=True)
        texts: dict[str, str] = {}
        for line in done.stdout.splitlines():
            tag, _, text = line.partition("\t")
            texts[tag] = texts.get(tag, "") + text + "\n"
        return list(texts.values())


desk.serve(Parallel())
