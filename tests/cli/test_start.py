"""The command line starts fast, loads only what a command needs, and explains itself."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pathspec
import pytest

import runyard
from runyard.cli.catalog import COMMANDS, LATER
from runyard.cli.main import runyard as root
from tests.cli.calling import BIN, Cli

CPU_LIMIT_S = 0.12
LOADED = """
import json, sys
sys.argv = ["runyard", "--help"]
from runyard.cli.main import main
main()
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def cpu_of(*words: str) -> float:
    """CPU seconds, user and system, of one call."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(BIN / "runyard"), *words], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_fast() -> None:
    """The least of several: what else the machine does only ever adds."""
    assert min(cpu_of("--help") for _ in range(7)) <= CPU_LIMIT_S


def test_help_loads_no_command_and_no_client() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert not loaded & {"http.client", "ssl", "pathspec", "runyard.client", "runyard.cli.train", "runyard.cli.listing"}
    assert "runyard.cli.catalog" in loaded


@pytest.mark.parametrize("words", [["list"], ["train", "--help"]])
def test_a_command_loads_none_of_the_servers_libraries(words: list[str]) -> None:
    script = f"""
import sys
sys.argv = ["runyard", *{words!r}]
from runyard.cli.main import main
main()
heavy = ["pydantic", "fastapi", "sqlalchemy", "yaml", "msgspec", "runyard.server", "runyard.manifest", "runyard.engine"]
print(*sorted(set(heavy) & set(sys.modules)), file=sys.stderr)
"""
    environment = os.environ | {"RUNYARD_URL": "http://127.0.0.1:1", "RUNYARD_TOKEN": "t"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == ""


def test_a_look_at_a_run_loads_nothing_that_sends_or_follows() -> None:
    script = """
import sys
sys.argv = ["runyard", "show", "training-00000000000000000000000000"]
from runyard.cli.main import main
main()
needless = ["zipfile", "tempfile", "shutil", "difflib", "hashlib", "click.shell_completion"]
needless += ["runyard.client." + name for name in ("packing", "streams", "access_records", "account_records")]
print(*sorted(set(needless) & set(sys.modules)), file=sys.stderr)
"""
    environment = os.environ | {"RUNYARD_URL": "http://127.0.0.1:1", "RUNYARD_TOKEN": "t"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    *said, loaded = done.stderr.splitlines()
    assert "Unreachable" in " ".join(said) or "127.0.0.1:1" in " ".join(said)
    assert loaded == ""


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import runyard, sys; print(runyard.__version__, 'http.client' in sys.modules, 'click' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.1.0", "False", "False"]


def test_help_names_every_command_that_is_there(nobody: Cli) -> None:
    text = nobody("--help").stdout
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert not any(f"\n  {name} " in text for name in LATER)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_takes_json(nobody: Cli, name: str) -> None:
    done = nobody(name, "--help")
    assert done.returncode == 0
    command = root.get_command(click.Context(root), name)
    if not isinstance(command, click.Group):  # those below a group take it themselves
        assert "--json" in done.stdout
    elif not command.invoke_without_command:
        leaf = next(each for each in command.commands.values() if not isinstance(each, click.Group))
        assert "--json" in nobody(name, leaf.name or "", "--help").stdout


def test_without_words_it_shows_help(nobody: Cli) -> None:
    done = nobody()
    assert done.returncode == 2
    assert "This machine:" in done.stderr


def test_a_typo_is_recognised(nobody: Cli) -> None:
    assert "did you mean `cancel`?" in nobody("cancle", "last").stderr


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("pause", "did you mean `queue pause`?"),
        ("resume", "did you mean `queue resume` or `nodes resume`?"),
        ("drain", "did you mean `nodes drain`?"),
        ("push", "did you mean `data push`?"),
        ("resme", "did you mean `queue resume` or `nodes resume`?"),
        ("shwo", "did you mean `show`?"),
        ("add", "did you mean `connections add` or `secrets add` or `frameworks add` or `tokens add`?"),
        ("xyzzy", "`runyard --help` lists them."),
    ],
)
def test_a_command_below_another_is_found_by_its_own_name(nobody: Cli, word: str, told: str) -> None:
    done = nobody(word, "last")
    assert done.returncode == 2
    assert f"There is no command `{word}`: {told}" in done.stderr


@pytest.mark.parametrize("words", [["version"], ["version", "--json"], ["--json", "version"]])
def test_version(nobody: Cli, words: list[str]) -> None:
    done = nobody(*words)
    assert done.stdout == ("runyard 0.1.0\n" if len(words) == 1 else '{\n  "version": "0.1.0"\n}\n')


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(nobody: Cli, shell: str) -> None:
    done = nobody("completion", shell)
    assert done.returncode == 0
    assert "_RUNYARD_COMPLETE" in done.stdout
    assert done.stderr == ""


def test_completion_of_commands_and_ids(cli: Cli) -> None:
    cli.environment |= {"_RUNYARD_COMPLETE": "bash_complete", "COMP_WORDS": "runyard ca", "COMP_CWORD": "1"}
    assert cli().stdout.strip() == "plain,cancel"
    cli.environment |= {"COMP_WORDS": "runyard --j"}
    assert cli().stdout.strip() == "plain,--json"


def test_completing_commands_loads_none(nobody: Cli) -> None:
    script = """
import os, sys
os.environ |= {"_RUNYARD_COMPLETE": "bash_complete", "COMP_WORDS": "runyard ", "COMP_CWORD": "1"}
from runyard.cli.main import runyard
try:
    runyard.main([], prog_name="runyard")
finally:
    loaded = {name.split(".")[2] for name in sys.modules if name.startswith("runyard.cli.")}
    print(sorted(loaded), "runyard.client" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=nobody.env(), check=False)
    assert {"plain,train", "plain,cancel", "plain,up"} <= set(done.stdout.split())
    assert done.stderr.strip() == "['catalog', 'main', 'session'] False"


@pytest.fixture
def client_alone(tmp_path: Path) -> list[str]:
    """An interpreter that has this package and what it needs without extras, and nothing else."""
    for module in (click, pathspec, runyard):
        folder = Path(str(module.__file__)).parent
        (tmp_path / "packages").mkdir(exist_ok=True)
        (tmp_path / "packages" / folder.name).symlink_to(folder)
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from runyard.cli.main import main; sys.exit(main())"
    return [sys.executable, "-I", "-S", "-c", start, str(tmp_path / "packages")]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["up"], 4, "pip install 'runyard[server]'"),
        (["up", "--detach"], 4, "(fastapi, uvicorn, sqlalchemy"),
        (["doctor"], 0, "pip install 'runyard[server]'"),
        (["down"], 0, "does not run"),
        (["list"], 5, "runyard up"),
        (["train", "--help"], 0, "--idempotency-key"),
    ],
)
def test_the_client_alone_says_what_is_missing(
    nobody: Cli, client_alone: list[str], words: list[str], code: int, said: str
) -> None:
    done = subprocess.run([*client_alone, *words], capture_output=True, text=True, env=nobody.env(), check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_elsewhere_than_on_linux_up_says_so(nobody: Cli) -> None:
    script = """
import sys
sys.platform = "darwin"
sys.argv = ["runyard", "up"]
from runyard.cli.main import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=nobody.env(), check=False)
    assert done.returncode == 4
    assert "need Linux" in done.stderr
