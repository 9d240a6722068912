"""From the framework that a manifest names to what its interpreter must offer: decided when a run is submitted.

:func:`resolve` is asked again for as long as it answers with a :class:`Question`: it names a distribution whose
versions it has to know, and the caller puts them into ``told``. It can ask for nothing itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from runyard.core.errors import Refused
from runyard.core.images import PULLS, read_image
from runyard.core.spec import OWN_ENVIRONMENT, EnvironmentRequest, Framework
from runyard.core.versions import is_stable, newest_match, same, short, sorted_versions, understood

PYTHON: Final = "python"
CUSTOM: Final = "custom"
"""The framework of a container image, which its version names."""
KERAS: Final = "keras"
TENSORFLOW: Final = "tensorflow"


@dataclass(frozen=True, slots=True)
class Known:
    """A framework known by name: what it is called on the package index, there with GPUs (with its extra), which other
    distributions hold it too, and what a warm parent imports for it (modules that start no thread, compute nothing)."""

    distribution: str
    gpu: str
    also: tuple[str, ...] = ()
    preload: tuple[str, ...] = ("numpy",)


KNOWN: Final[Mapping[str, Known]] = MappingProxyType(
    {
        "pytorch": Known(
            "torch",
            "torch",
            preload=("numpy", "torch", "torch._dynamo", "torch.optim", "torch.utils.data", "torch.nn.functional"),
        ),
        TENSORFLOW: Known("tensorflow-cpu", "tensorflow[and-cuda]", ("tensorflow",)),
        KERAS: Known("keras", "keras"),
        "jax": Known("jax", "jax[cuda12]"),
        "scikit-learn": Known("scikit-learn", "scikit-learn"),
        "xgboost": Known("xgboost", "xgboost", ("xgboost-cpu",)),
        "lightgbm": Known("lightgbm", "lightgbm"),
    }
)
"""Frameworks that need no registration; ``python`` beside them is an interpreter without any."""

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "torch": "pytorch",
        "tf": TENSORFLOW,
        "tensorflow-cpu": TENSORFLOW,
        "tensorflow-gpu": TENSORFLOW,
        "sklearn": "scikit-learn",
        "scikit_learn": "scikit-learn",
        "scikit": "scikit-learn",
        "xgb": "xgboost",
        "lgbm": "lightgbm",
        "python3": PYTHON,
    }
)
"""Other names for them."""

DISTRIBUTIONS: Final = tuple(sorted({name for each in KNOWN.values() for name in (each.distribution, *each.also)}))
"""What a machine tells of its own interpreter, where it is installed."""


def preload_of(framework: str) -> tuple[str, ...]:
    """What a warm parent imports for a framework by its name or alias; nothing for ``python`` and unknown ones."""
    known = KNOWN.get(ALIASES.get(framework, framework))
    return known.preload if known is not None else ()


IMPORTED_AS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("torch", "torchvision", "torchaudio", "lightning", "pytorch_lightning", "ignite"), "pytorch"),
        "sklearn": "scikit-learn",
        **dict.fromkeys(("numpy", "scipy", "pandas", "xgboost", "lightgbm", "jax"), "scikit-learn"),
    }
)
"""By the module that a program imports, the framework whose list is worth having: where no framework was named."""


def preload_for(modules: Collection[str]) -> tuple[str, ...]:
    """What a warm parent imports for programs that import these modules (top-level names): a framework's list, the
    longest that fits."""
    lists = [preload_of(IMPORTED_AS[name]) for name in modules if name in IMPORTED_AS]
    return max(lists, key=len, default=())


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine that may run it has: the version of its own interpreter and the frameworks installed there
    (distribution -> version), and whether there is a device behind its GPU slots."""

    python: str = ""
    packages: Mapping[str, str] = field(default_factory=dict[str, str])
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class Registered:
    """What the account has registered for a framework and version (empty: any): an existing environment ``python``,
    or another framework to take ``instead``, as ``NAME:VERSION``."""

    name: str
    version: str = ""
    python: str | None = None
    instead: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides about an environment. ``python``, ``pull``, ``registry``: what these keys of ``runyard`` say."""

    framework: Framework
    python: str | None = None
    registered: Sequence[Registered] = ()
    machines: Sequence[Machine] = ()
    pull: str = PULLS[0]
    registry: str | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """The environment, and sentences for the run's page."""

    environment: EnvironmentRequest
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """Which versions of a distribution does the package index have for the machines' interpreter?"""

    distribution: str


class NotHere(Refused):
    """A framework that cannot be had. ``instead``: what can be, as ``NAME:VERSION``; None where nothing is near."""

    def __init__(self, message: str, instead: str | None = None) -> None:
        super().__init__(message)
        self.instead = instead


Told = Mapping[str, Sequence[str] | None]
"""Versions by distribution, newest first; None: the index cannot be asked."""


def canonical(name: str) -> str:
    """The name that a framework has here."""
    plain = name.strip().lower()
    return ALIASES.get(plain, plain)


def resolve(asked: Asked, told: Told = MappingProxyType({})) -> Resolution | Question:
    """The environment of a submission. Raises :class:`Refused` with a sentence that leads on."""
    if asked.framework.name == CUSTOM:
        return _image(asked)
    if asked.registry is not None or asked.pull != PULLS[0]:
        raise Refused(
            "`runyard.registry` and `runyard.pull` are about container images, and this manifest names none: "
            "say `framework: {name: custom, version: IMAGE}`, or take them out."
        )
    if asked.python is not None:
        return _existing(asked.python, asked.registered)
    name = canonical(asked.framework.name)
    if not name:
        return Resolution(OWN_ENVIRONMENT, _python_note(asked))
    version = wanted_version(asked.framework)
    found = _registered_for(asked.registered, name, version)
    if found is not None:
        return _as_registered(asked, found, told)
    if name == PYTHON:
        return _plain_python(asked, version)
    if name not in KNOWN:
        raise _unknown(asked)
    answer = _pinned(asked, name, version, told)
    return answer if isinstance(answer, Question) else replace(answer, notes=(*answer.notes, *_python_note(asked)))


def _image(asked: Asked) -> Resolution:
    if asked.python is not None:
        raise Refused("A container brings its own Python: take out `python`, or the framework `custom` with its image.")
    if not asked.framework.version:
        raise Refused("With the framework `custom` the version is a container image: name one, as custom:IMAGE.")
    image = read_image(asked.framework.version)
    return Resolution(EnvironmentRequest(image=str(image), pull=asked.pull, registry=asked.registry))


def wanted_version(framework: Framework) -> str:
    """The version asked for, without what older services put behind it; empty: none in particular."""
    version = understood(framework.version)
    if version is None:
        raise Refused(
            f"The version {framework.version!r} of the framework {framework.name} is none: write it as 2, 2.13 or "
            "2.13.0, or leave it out."
        )
    return version


def split(text: str) -> Framework:
    """A framework written as ``NAME`` or ``NAME:VERSION``."""
    name, _, version = text.partition(":")
    return Framework(name.strip(), version.strip())


# --------------------------------------------------------------------------------------- what exists or is registered


def _existing(python: str, registered: Sequence[Registered]) -> Resolution:
    """An interpreter or environment by path or name; a name that was registered stands for its path."""
    wanted = split(python)
    for each in sorted(registered, key=lambda each: each.version):
        named = canonical(each.name) == canonical(wanted.name) and same(each.version, wanted.version)
        if each.python is not None and "/" not in python and named:
            return Resolution(EnvironmentRequest(python=each.python))
    if "/" in python and not python.startswith(("/", "~")):
        raise Refused(
            f"{python} is no whole path: programs run in another folder, so write it from / on (the machine's own "
            "folders count, not yours)."
        )
    return Resolution(EnvironmentRequest(python=python))


def _registered_for(registered: Sequence[Registered], name: str, version: str) -> Registered | None:
    """The most exact registration of a framework; without a version asked for, and of a name that only the account
    knows, its newest."""
    mine = [each for each in registered if canonical(each.name) == name]
    fitting = [each for each in mine if not each.version or (version and newest_match(each.version, [version]))]
    if not fitting and not version and name not in KNOWN and name != PYTHON:
        fitting = mine
    ordered = sorted_versions(each.version for each in fitting)
    return next((each for each in fitting if each.version == ordered[0]), None) if ordered else None


def _as_registered(asked: Asked, found: Registered, told: Told) -> Resolution | Question:
    words = _words(asked.framework)
    if found.python is not None:
        note = f"{words} is the environment {found.python}, as registered."
        return Resolution(EnvironmentRequest(python=found.python), (note,))
    rest = tuple(each for each in asked.registered if each is not found)
    target = split(found.instead or "")
    answer = resolve(replace(asked, framework=replace(target, python=asked.framework.python), registered=rest), told)
    if isinstance(answer, Question):
        return answer
    return replace(answer, notes=(f"{words} is taken as {_words(target)}, as registered.", *answer.notes))


def _words(framework: Framework) -> str:
    return f"framework {framework.name} {framework.version}".rstrip()


def _unknown(asked: Asked) -> NotHere:
    name = asked.framework.name
    names = sorted({*KNOWN, PYTHON, *(each.name for each in asked.registered)})
    near = difflib.get_close_matches(canonical(name), [*names, *ALIASES], 1)
    hint = f" Did you mean {canonical(near[0])}?" if near else ""
    return NotHere(
        f"There is no framework {name!r} here.{hint} There are {', '.join(names)}; `runyard frameworks add {name} "
        "--python PATH` registers an environment of your own under that name.",
        canonical(near[0]) if near else None,
    )


# ------------------------------------------------------------------------------------------------------------- Python


def _plain_python(asked: Asked, version: str) -> Resolution:
    """The machines' own interpreter, where its version is the one asked for."""
    there = sorted_versions({machine.python for machine in asked.machines if machine.python})
    if version and there and newest_match(version, there) is None:
        option = f"{PYTHON}:{short(there[0], there)}"
        raise NotHere(
            f"Python {version} is not the interpreter here, which is {' or '.join(there)}: submit again with "
            f"--framework {option}, or with --python and an interpreter that the machine has, "
            f"such as --python python{version}.",
            option,
        )
    return Resolution(OWN_ENVIRONMENT)


def _python_note(asked: Asked) -> tuple[str, ...]:
    """What to say where the manifest's ``runtimes`` name another Python than there is."""
    wanted = understood(asked.framework.python) or ""
    there = sorted_versions({machine.python for machine in asked.machines if machine.python})
    if not wanted or not there or newest_match(wanted, there) is not None:
        return ()
    return (f"The manifest's runtimes name Python {wanted}; it runs under Python {there[0]}.",)


def python_words(machines: Sequence[Machine]) -> str:
    """The interpreter of some machines, e.g. ``Python 3.11``."""
    there = sorted_versions({machine.python for machine in machines if machine.python})
    return f"Python {'.'.join(there[0].split('.')[:2])}" if there else "the machines' Python"


# --------------------------------------------------------------------------------------------------------------- pins


def _pinned(asked: Asked, name: str, version: str, told: Told) -> Resolution | Question:
    own = _own_pin(asked, name, version)
    if own is not None:
        return Resolution(EnvironmentRequest(packages=(own,)))
    needed = _asked_for(asked, name)
    for requirement in needed:
        if _bare(requirement) not in told:
            return Question(_bare(requirement))
    if any(told[_bare(requirement)] is None for requirement in needed):
        return _unasked(name, version, needed)
    there = _to_be_had(name, needed, told)
    chosen = newest_match(version, there) if version else next((each for each in there if is_stable(each)), None)
    if chosen is None:
        raise _not_here(asked, name, version, there)
    pins = [f"{needed[0]}=={chosen}"]
    if name == KERAS:
        pins.append(f"{needed[1]}=={_backend(chosen, told[_bare(needed[1])] or ())}")
    return Resolution(EnvironmentRequest(packages=tuple(pins)))


def _own_pin(asked: Asked, name: str, version: str) -> str | None:
    """The version in a machine's own interpreter, if it is one that was asked for: nothing need be built then."""
    known = KNOWN[name]
    found: list[tuple[str, str]] = []
    for machine in asked.machines:
        for distribution in (known.distribution, *known.also):
            installed = machine.packages.get(distribution, "").partition("+")[0]
            if installed and (not version or newest_match(version, [installed])) and _serves(name, machine):
                found.append((installed, distribution))
    ordered = sorted_versions(installed for installed, _ in found)
    return next((f"{dist}=={each}" for each, dist in found if each == ordered[0]), None) if ordered else None


def _serves(name: str, machine: Machine) -> bool:
    """Keras alone is nothing: it computes with one of three others."""
    return name != KERAS or any(each in machine.packages for each in ("tensorflow", "tensorflow-cpu", "torch", "jax"))


def _asked_for(asked: Asked, name: str) -> tuple[str, ...]:
    """What is installed for a framework: the first has its version."""
    gpu = any(machine.gpu for machine in asked.machines)
    names = (name, TENSORFLOW) if name == KERAS else (name,)
    return tuple(KNOWN[each].gpu if gpu else KNOWN[each].distribution for each in names)


def _bare(requirement: str) -> str:
    return requirement.partition("[")[0]


def _to_be_had(name: str, needed: Sequence[str], told: Told) -> list[str]:
    """Versions of a framework, newest first. Of Keras 2 those alone whose TensorFlow (of the same minor) is there."""
    versions = list(told[_bare(needed[0])] or ())
    if name != KERAS:
        return versions
    backends = told[_bare(needed[1])] or ()
    return [each for each in versions if _backend(each, backends) is not None]


def _backend(keras: str, backends: Sequence[str]) -> str | None:
    """The TensorFlow for a Keras: of the same minor up to Keras 2, the newest from 3 on."""
    if keras.split(".")[0] in ("0", "1", "2"):
        return newest_match(".".join(keras.split(".")[:2]), backends)
    return next((each for each in backends if is_stable(each)), None)


def _unasked(name: str, version: str, needed: Sequence[str]) -> Resolution:
    if not version:
        raise Refused(
            f"The package index cannot be asked which versions of {name} there are: name one, as in --framework "
            f"{name}:1.0, or an environment that has it with --python PATH."
        )
    pin = version if version.count(".") >= 2 else f"{version}.*"
    note = f"The package index could not be asked; {needed[0]}=={pin} is tried as it is."
    return Resolution(EnvironmentRequest(packages=(f"{needed[0]}=={pin}", *needed[1:])), (note,))


def _not_here(asked: Asked, name: str, version: str, there: Sequence[str]) -> NotHere:
    """What there is instead, and the one option that leads on."""
    where = f"{_spoken(name, version)} cannot be had for {python_words(asked.machines)} on this installation"
    stable = [each for each in there if is_stable(each)]
    if not stable:
        return NotHere(f"{where}: the package index has none. Name an environment that has it, with --python PATH.")
    older, newer = _neighbours(version, stable)
    family = version.split(".")[0]
    near = next((each for each in (older, newer) if each and each.split(".")[0] == family), stable[0])
    between = [each for each in (older, newer) if each and each not in (stable[0], stable[-1])]
    nearest = f"; nearest to it {' and '.join(between)}" if between else ""
    option = f"{name}:{short(near, stable)}"
    span = f"{stable[-1]} to {stable[0]}" if len(stable) > 1 else f"only {stable[0]}"
    return NotHere(
        f"{where} (there {'are' if len(stable) > 1 else 'is'} {span}{nearest}): submit again with "
        f"--framework {option}. To have it so for every manifest: `runyard frameworks add {name}:{version} "
        f"--instead {option}`.",
        option,
    )


def _spoken(name: str, version: str) -> str:
    return f"{name} {version}".rstrip()


def _neighbours(version: str, there: Sequence[str]) -> tuple[str | None, str | None]:
    """The next older and the next newer version that there is (``there``: newest first)."""
    ordered = sorted_versions([*there, version])
    at = ordered.index(version)
    older = ordered[at + 1] if at + 1 < len(ordered) else None
    return older, ordered[at - 1] if at > 0 else None
