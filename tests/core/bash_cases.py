"""Random bash commands whose arguments are known, and one bash that runs thousands of them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from runyard.core.command import scalar_text
from runyard.core.spec import Scalar

NAMES = ("lr", "width", "opt.name", "a-b", "_x", "Seed2")
PLAIN = "abcXYZ019._/,:@%+="
AWKWARD = "'\"`$\\!{}()#;&|<>*?~[] \n\t\r-=éß漢😀\x7f\u2028"
DRIVER = r"""
show() { printf '%s\0' "$@"; }
pass() { cat; }
export X=xx; lr=of-bash; nothing=; a=1
mapfile -d '' -t cases < "$1"
for each in "${cases[@]}"; do
  ( set -e -o pipefail; eval "$each" ) || printf 'FAILED %s\0' $?
  printf '\036\0'
done
"""
"""Each command is read by `eval` in a subshell of its own, under the options of the real thing."""


def run_all(commands: Sequence[str], folder: Path) -> list[list[str]]:
    """What each command's `show` was called with, all run by one bash."""
    cases = folder / "cases"
    cases.write_bytes(b"".join(command.encode() + b"\0" for command in commands))
    done = subprocess.run(
        ["bash", "-c", DRIVER, "bash", str(cases)],
        cwd=folder,
        capture_output=True,
        timeout=600,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr[:2000]
    answers = done.stdout.decode().split("\36\0")[:-1]
    assert len(answers) == len(commands)
    return [answer.split("\0")[:-1] for answer in answers]


def random_text(random: Random, most: int = 12) -> str:
    """Text of every kind of character but NUL, often of the awkward ones."""
    alphabet = random.choice((PLAIN, AWKWARD, PLAIN + AWKWARD))
    return "".join(random.choices(alphabet, k=random.randint(0, most)))


def random_value(random: Random) -> Scalar:
    """The value of a hyper-parameter."""
    match random.randrange(6):
        case 0:
            return random.choice((True, False))
        case 1:
            return random.randint(-(10 ** random.randint(1, 18)), 10 ** random.randint(1, 18))
        case 2:
            return random.choice((1.0, -1.0)) * random.random() * 10.0 ** random.randint(-300, 300)
        case 3:
            return random.choice(
                ("-", "--", "-x", "-1e-5", "--lr", "-0.1", "", "{lr}", "$(exit 7)", "`exit 7`", "#", "~")
            )
        case _:
            return random_text(random)


@dataclass(frozen=True)
class Piece:
    """Text of a command, and what bash makes of it."""

    source: str
    value: str


def joined(pieces: Sequence[Piece]) -> Piece:
    """Pieces side by side, a dash between those that would make one of bash's own: `$` and `{lr}`, `$X` and `a`."""
    source, value = "", ""
    for each in pieces:
        gap = "-" if source.endswith(("$", "{", "$X")) else ""
        source, value = source + gap + each.source, value + gap + each.value
    return Piece(source, value)


@dataclass
class Words:
    """Makes words of a command out of pieces; ``parameters`` are asked for in some of them."""

    random: Random
    parameters: dict[str, Scalar]

    def hole(self) -> Piece:
        name = self.random.choice(list(self.parameters))
        return Piece(f"{{{name}}}", scalar_text(self.parameters[name]))

    def word(self) -> Piece:
        """One word: pieces of every quoting, side by side."""
        makers = [
            self.bare,
            self.single,
            self.double,
            self.ansi,
            self.escaped,
            self.hole,
            self.expanded,
            self.left_alone,
        ]
        pieces = [self.random.choice(makers)() for _ in range(self.random.randint(1, 4))]
        return joined(pieces)

    def bare(self) -> Piece:
        text = "".join(self.random.choices("abcXYZ019._/,:@%+", k=self.random.randint(1, 5)))
        return Piece("w" + text, "w" + text)

    def mixed(self, literal: str, escape: dict[str, str]) -> list[Piece]:
        """Literal text and holes for the inside of quotes; ``escape`` says how a character must be written there."""
        found: list[Piece] = []
        for _ in range(self.random.randint(0, 3)):
            if self.random.random() < 0.4:
                found.append(self.hole())
            else:
                text = "".join(self.random.choices(literal, k=self.random.randint(0, 6)))
                found.append(Piece("".join(escape.get(each, each) for each in text), text))
        return found

    def quoted(self, opening: str, closing: str, inside: list[Piece]) -> Piece:
        found = joined(inside)
        return Piece(opening + found.source + closing, found.value)

    def single(self) -> Piece:
        return self.quoted("'", "'", self.mixed('ab "`$\\#;&|<>()*?~\n\té=-', {}))

    def double(self) -> Piece:
        inside = self.mixed("ab '#;&|<>()*?~\n\té=-\"\\$`", {mark: "\\" + mark for mark in '"\\$`'})
        inner = self.random.choice((self.expanded, self.substituted, self.bare))()
        inside.insert(self.random.randint(0, len(inside)), inner)
        return self.quoted('"', '"', inside)

    def ansi(self) -> Piece:
        escape = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
        return self.quoted("$'", "'", self.mixed("ab \"`$#;&|<>()*?~\n\té=-'\\", escape))

    def escaped(self) -> Piece:
        mark = self.random.choice(" '\"`$\\!()#;&|<>*?~\t")
        return Piece("\\" + mark, mark)

    def expanded(self) -> Piece:
        """What bash expands itself, which placeholders must leave alone."""
        choices = (("$X", "xx"), ("${X}", "xx"), ("${nothing:-d}", "d"), ("$((1 + 2))", "3"), ("${#X}", "2"),
                   ("${lr}", "of-bash"), ("$((1<<3))", "8"), ("${X%x}", "x"))  # fmt: skip
        return Piece(*self.random.choice(choices))

    def substituted(self) -> Piece:
        """A substitution between double quotes with a placeholder in it: trailing line breaks are bash's to drop."""
        hole = self.hole()
        form = self.random.choice(("$(printf %s {})", '$(printf %s "{}" | pass)', "$(printf %s '{}'; : \")\")"))
        return Piece(form.replace("{}", hole.source), hole.value.rstrip("\n"))

    def left_alone(self) -> Piece:
        """Braces that are no placeholders."""
        choices = ("\\{lr}", "'{print}'", "{nobody}", "'{}'", "${lr}")
        source = self.random.choice(choices)
        return Piece(source, "of-bash" if source == "${lr}" else source.strip("'").removeprefix("\\"))


@dataclass(frozen=True)
class Case:
    """A command, its parameters, what its program must get before the appended arguments, and whether these may be
    added: then the program is the last of the command."""

    command: str
    parameters: dict[str, Scalar]
    arguments: list[str]
    open_ended: bool


def random_case(random: Random) -> Case:
    """A command of several parts around one call of `show`."""
    names = random.sample(NAMES, random.randint(1, 4))
    parameters = {name: random_value(random) for name in names}
    words = Words(random, parameters)
    found = [words.word() for _ in range(random.randint(0, 4))]
    gaps = [random.choice((" ", "  ", "\t", " \\\n ")) for _ in found]
    call = "show" + "".join(gap + each.source for gap, each in zip(gaps, found, strict=True))
    before, after = random.choice(BEFORE), random.choice(("", "", *AFTER))
    return Case(before + call + after, parameters, [each.value for each in found], after in OPEN)


BEFORE = (
    "", "", "", "", "true; ", "true && ", "# it's {lr} \"$(\n", "pass > /dev/null <<EOF\n$(echo it) ' \"\nEOF\n",
    "pass > /dev/null <<'E F'\nit's `\nE F\n", "pass >/dev/null <<-EOF\n\t'\n\tEOF\n", "X=yy true\n", "( : '{' ) ;",
    "[[ a<b ]] && ", "case a in (a) : ;; esac; ", "if true; then :; fi\n", ": {a,b} $((1<<2))\n", "f() { :; }; f; ",
    ": <<< \"it's\"; ", "export Y='a;b'; ", "a=1 ", "! false && ", "cd . && ", "printf '' | pass; ",
)  # fmt: skip
"""What may stand before the program and prints nothing."""
OPEN = ("", "\n", "  \n ", " \\\n", " 2> /dev/null")
AFTER = (
    *OPEN,
    " | pass",
    "; true",
    " # it's {lr} \"",
    "\n# {lr}",
    " && true",
    " | pass | pass;",
    "\ntrue <<E\n' {lr\nE\n",
)


def random_document(random: Random) -> Case:
    """A here-document, its end quoted or not, whose lines hold placeholders; no value has a line break."""
    parameters = {name: random_value(random) for name in random.sample(NAMES, 2)}
    parameters = {
        name: " ".join(value.split()) if isinstance(value, str) else value for name, value in parameters.items()
    }
    words, raw, end = Words(random, parameters), random.random() < 0.5, random.choice(("EOF", "E.1", "end"))
    escape = {} if raw else {mark: "\\" + mark for mark in "\\$`"}
    lines = [joined(words.mixed("ab '\"#;&|<>()*?~\t=-\\$`", escape)) for _ in range(random.randint(1, 4))]
    word = random.choice((f"'{end}'", f'"{end}"')) if raw else end
    body = "".join(f"{each.source}|\n" for each in lines)
    command = f'mapfile -t got <<{word}\n{body}{end}\nshow "${{got[@]}}"'
    return Case(command, parameters, [each.value + "|" for each in lines], open_ended=True)
