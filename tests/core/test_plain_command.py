"""Commands that need no shell: what is recognised is what bash would have run, and nothing else is recognised."""

from pathlib import Path
from random import Random

import pytest

from runyard.core.plain_command import PlainCommand, read_plain
from tests.core.bash_cases import AWKWARD, PLAIN, run_all


@pytest.mark.parametrize(
    ("command", "plain"),
    [
        ("python train.py", PlainCommand("python", "train.py", None, ())),
        ("  python3 -u src/train.py --lr 0.1  \n", PlainCommand("python3", "src/train.py", None, ("--lr", "0.1"))),
        ("python -m pkg.train a=b", PlainCommand("python", None, "pkg.train", ("a=b",))),
        ("python 'my train.py' \"a b\"'c'd ''", PlainCommand("python", "my train.py", None, ("a bcd", ""))),
        ('python train.py --name=it"\'"s', PlainCommand("python", "train.py", None, ("--name=it's",))),
        ("python train.py 'a\nb' \"*?~{}!\"", PlainCommand("python", "train.py", None, ("a\nb", "*?~{}!"))),
    ],
)
def test_one_program_and_its_words(command: str, plain: PlainCommand | str) -> None:
    assert read_plain(command) == plain


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("python train.py | tee log", "a pipe"),
        ("python train.py || true", "a pipe"),
        ("python a.py; python b.py", "more than one command"),
        ("python a.py &", "more than one command"),
        ("python a.py\npython b.py", "more than one line"),
        ("python a.py > out", "a redirection"),
        ("python a.py $LR", "something that bash expands"),
        ("python a.py `date`", "something that bash expands"),
        ('python a.py "$LR"', "quoting that only bash reads"),
        ("python a.py *.npz", "a pattern of file names"),
        ("python a.py {1,2}", "braces"),
        ("python a.py ~/x", "a home folder"),
        ("python a.py # once", "a comment"),
        ("python a.py a\\ b", "a backslash"),
        ("python a.py 'open", "quoting that only bash reads"),
        ("LR=1 python a.py", "a variable set before it"),
        ("bash train.sh", "another program than `python`"),
        ("/usr/bin/python3 a.py", "another program than `python`"),
        ("python", "no script"),
        ("python -c 'print(1)'", "the interpreter's option `-c`"),
        ("python -O a.py", "the interpreter's option `-O`"),
        ("python -m", "the interpreter's option `-m`"),
        ("python -m a-b", "a module of an unusual name"),
        ("python folder", "a program that does not end in .py"),
        ("python a.py \0", "quoting that only bash reads"),
        ("", "no words"),
    ],
)
def test_what_needs_bash_is_told(command: str, why: str) -> None:
    assert read_plain(command) == why


def test_random_commands_are_left_to_bash_or_read_as_bash_reads_them(tmp_path: Path) -> None:
    random = Random(4)
    pieces = (PLAIN, PLAIN, " ", " ", "'", '"', AWKWARD)
    commands: list[str] = []
    seen: list[PlainCommand] = []
    while len(commands) < 3000:
        tail = "".join(random.choice(random.choice(pieces)) for _ in range(random.randint(0, 14)))
        plain = read_plain(f"python train.py {tail}")
        if isinstance(plain, PlainCommand):
            commands.append(f"show {tail}")
            seen.append(plain)
    assert run_all(commands, tmp_path) == [list(plain.arguments) or [""] for plain in seen]
