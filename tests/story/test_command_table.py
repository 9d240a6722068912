"""Every form of the table of commands in docs/cli.md, called against a real installation: it works, or says "not in
this version"."""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from runyard.cli import main
from runyard.cli.catalog import COMMANDS, LATER
from tests.cli.synopsis import PAGE, forms, lines
from tests.support.installation import Installation, manifest, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

NOT_HERE = ("up", "down", "backup", "restore")
"""They are called by stories with a home of their own, and not in this process."""
QUICK = "print('step 1')"
SLOW = "import time; print('on', flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with one slot, and in its folder what the forms name."""
    with running_installation(tmp_path_factory.mktemp("table"), "--fake-gpus", "1") as installation:
        folder = installation.folder
        write_code(folder / "MODEL", {"train.py": QUICK, "slow.py": SLOW})
        (folder / "MANIFEST").write_text(
            manifest("python3 train.py --lr {lr}", extra="runyard: {hyper_parameters: {lr: 1}}\n")
        )
        (folder / "slow.yml").write_text(manifest("python3 slow.py"))
        (folder / "OLD.yml").write_text(manifest("python3 train.py"))
        write_code(folder / "PATH", {"one.txt": "1"})
        write_code(folder / "DIR", {"two.txt": "2"})
        (folder / "train.py").write_text(QUICK)
        installation.cli("data", "push", "PATH", "bucket")
        installation.cli("data", "push", "PATH", "bucket/prefix")
        installation.cli("train", "MODEL", "MANIFEST", "--tag", "t", "--wait")
        yield installation


@dataclass
class Caller:
    """Calls forms in this process, with what their words in capitals stand for."""

    yard: Installation
    made: list[str] = field(default_factory=list)

    def call(self, words: list[str]) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a call."""
        out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
        before = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(b"a value of some length\n"))
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main.run("runyard", words)
        finally:
            sys.stdin = before
        return code, out.buffer.getvalue().decode(), err.getvalue()

    def slow(self) -> str:
        """A run that runs until it is canceled."""
        run = self.call(["train", "MODEL", "slow.yml"])[1].strip()
        self.made.append(run)
        wait_until(lambda: self.state(run) == "running", "the program runs", 60)
        return run

    def waiting(self) -> str:
        """A run that waits behind one that runs."""
        if not self.made:
            self.slow()
        self.made.append(self.call(["train", "MODEL", "slow.yml"])[1].strip())
        return self.made[-1]

    def completed(self) -> str:
        """A run that has completed."""
        return self.call(["train", "MODEL", "MANIFEST", "--wait"])[1].strip()

    def state(self, run: str) -> str:
        return json.loads(self.call(["show", run, "--json"])[1])["state"]

    def end(self) -> None:
        """Cancel what still runs."""
        if self.made:
            self.call(["cancel", *self.made])
            self.call(["wait", *self.made])
            self.made.clear()


@pytest.fixture
def caller(yard: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    monkeypatch.setenv("RUNYARD_HOME", str(yard.home))
    monkeypatch.setenv("RUNYARD_CONTEXTS", str(yard.home.parent / "contexts.json"))
    monkeypatch.delenv("RUNYARD_URL", raising=False)
    monkeypatch.chdir(yard.folder)
    found = Caller(yard)
    yield found
    found.end()


MEANINGS: dict[str, str] = {
    "ID...": "tag:t", "ID": "tag:t", "S": "completed", "T": "t", "K": "name", "N": "1", "RE": "step", "P": "50",
    "K=V1,V2": "lr=0.1,0.2", "K=LO..HI:N": "lr=1..4:4", "K=LO..HI:N:log": "lr=1e-4..1e-1:4:log", "K=V": "A=b",
    "PATH=VALUE": "model_definition.name=x", "NAME": "python", "NAME:VERSION": "python:3", "SIZE": "1Gb",
    "BUCKET": "bucket", "BUCKET/PREFIX": "bucket/prefix", "BUCKET/KEY": "bucket/one.txt", "FILE": "saved.yml",
    "COMMAND": "python3 train.py --lr {lr}", "NEW": "new", "OLD": "new", "POSITION": "1", "ACCOUNT": "default",
    "NODE": "local",
    "CONTEXT": "lab", "PLAN": "unlimited", "MEMBER": "mia", "TIME": "2026-01-01",
}  # fmt: skip
"""What words in capitals stand for."""
SPECIAL: dict[tuple[str, str], str] = {
    ("--timeout", "S"): "30", ("--since", "T"): "1h", ("--max-runtime", "T"): "2h", ("--gpus", "N"): "0",
    ("--idempotency-key", "K"): "key", ("--name", "N"): "loss", ("--python", "P"): sys.executable,
    ("--data", "BUCKET"): "bucket", ("run", "PATH=VALUE"): "name=x",
}  # fmt: skip
FRESH: dict[str, Callable[[Caller], str]] = {
    "cancel": Caller.slow, "delete": Caller.completed, "move": Caller.waiting,
    "priority": Caller.waiting,
}  # fmt: skip
MORE: dict[str, list[str]] = {
    "connections add": ["--type", "s3", "--endpoint-url", "http://127.0.0.1:1"],
    "frameworks add": ["--python", sys.executable],
}


def meant(caller: Caller, form: list[str]) -> list[str]:
    """The form with something for each of its words in capitals."""
    words: list[str] = []
    there = {"URL": caller.yard.url, "TOKENFILE": str(caller.yard.home / "token")}
    if form[0] == "logout":
        caller.call(["login", there["URL"], "--token-file", there["TOKENFILE"]])
    for index, word in enumerate(form):
        before = form[index - 1] if index else ""
        verb = form[1] if form[0] == "queue" and len(form) > 1 else form[0]
        if word == "ID" and verb in FRESH:
            words.append(FRESH[verb](caller))
        else:
            special = SPECIAL.get((before, word)) or SPECIAL.get((form[0], word))
            words.append(special or there.get(word) or MEANINGS.get(word, word))
    if form[:2] == ["tokens", "rm"]:
        tokens = json.loads(caller.call(["tokens", "list", "--json"])[1])
        words[-1] = next(each["id"] for each in tokens if each["name"] == "new")
    if form[0] in ("train", "run") and not {"--follow", "--wait"} & set(form):
        words.insert(1, "--dry-run")
    if form[0] == "run":
        return [*words[: words.index("--") + 1], *words[-1].split()]
    return words + MORE.get(" ".join(form[:2]), [])


def not_here(form: list[str]) -> bool:
    """Whether the page says that a form is not in this version."""
    told = PAGE.read_text(encoding="utf-8").split("## Not in this version")[1]
    whole = " ".join(form[:2])
    names = [f"`{form[0]}`" if form[0] not in COMMANDS else "", f"`{whole}`"]
    if form[0] == "generate-manifest" and "--from" in form:
        names = ["`generate-manifest --from`"]
    return any(name and name in told for name in names)


def test_every_command_is_in_the_table() -> None:
    told = {line.split()[1] for line in lines() if line.startswith("runyard ")}
    named = {each for words in told for each in words.split("|")}
    assert named == {*COMMANDS, *LATER}


@pytest.mark.parametrize("form", [form for form in forms() if form[0] not in NOT_HERE], ids=" ".join)
def test_it_works_or_says_that_it_is_not_there_yet(caller: Caller, form: list[str]) -> None:
    words = meant(caller, form)
    code, out, err = caller.call(words)
    assert "Traceback" not in err
    if code == 4:
        assert not_here(form), f"{words} is not told in the last paragraph of the page"
        assert "not in this version" in err, (words, err)
        assert out == ""
    else:
        assert code == 0, (words, out, err)
