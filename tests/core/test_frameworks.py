"""From a framework to the environment: who is asked, in which order, and what is said where there is none."""

from collections.abc import Mapping, Sequence

import pytest

from runyard.core.errors import Refused
from runyard.core.frameworks import Asked, Machine, Question, Registered, Resolution, resolve
from runyard.core.spec import EnvironmentRequest, Framework

PLAIN = Machine("3.11.7")
WITH_TORCH = Machine("3.11.7", {"torch": "2.13.0+cpu"})
WITH_GPU = Machine("3.11.7", gpu=True)
INDEX = {
    "torch": ("2.15.0", "2.14.1", "2.13.0"),
    "tensorflow-cpu": ("2.22.0rc0", "2.21.0", "2.20.0", "2.19.1", "2.15.1", "2.12.0"),
    "tensorflow": ("2.21.0", "2.12.0"),
    "keras": ("3.15.1", "3.0.0", "2.15.0", "2.4.3"),
    "jax": ("0.10.2",),
    "scikit-learn": (),
}


def answer(
    name: str,
    version: str = "",
    *,
    runtime: str = "",
    index: Mapping[str, Sequence[str] | None] | None = None,
    machine: Machine = PLAIN,
    python: str | None = None,
    registered: tuple[Registered, ...] = (),
) -> tuple[Resolution, list[str]]:
    """What comes out, and which distributions had to be asked for."""
    asked = Asked(Framework(name, version, runtime), python, registered, (machine,))
    told: dict[str, Sequence[str] | None] = {}
    while isinstance(found := resolve(asked, told), Question):
        assert found.distribution not in told
        told[found.distribution] = (INDEX if index is None else index).get(found.distribution)
    return found, list(told)


def pins(name: str, version: str = "", **more: object) -> tuple[str, ...]:
    resolution, _ = answer(name, version, **more)  # type: ignore[arg-type]  # the tests name its parameters
    assert resolution.environment.python is None
    return resolution.environment.packages


def refusal(name: str, version: str = "", **more: object) -> str:
    with pytest.raises(Refused) as refused:
        answer(name, version, **more)  # type: ignore[arg-type]  # the tests name its parameters
    return refused.value.message


@pytest.mark.parametrize(
    ("name", "version", "machine", "found"),
    [
        ("", "", PLAIN, ()),
        ("python", "", PLAIN, ()),
        ("python", "3.11", PLAIN, ()),
        ("python", "3.9", Machine(), ()),
        ("pytorch", "", PLAIN, ("torch==2.15.0",)),
        ("PyTorch", "2.13", PLAIN, ("torch==2.13.0",)),
        ("torch", "2.14.1-gpu-py3", PLAIN, ("torch==2.14.1",)),
        ("pytorch", "", WITH_TORCH, ("torch==2.13.0",)),
        ("pytorch", "2", WITH_TORCH, ("torch==2.13.0",)),
        ("pytorch", "2.14", WITH_TORCH, ("torch==2.14.1",)),
        ("tf", "2", PLAIN, ("tensorflow-cpu==2.21.0",)),
        ("tensorflow", "2.22.0rc0", PLAIN, ("tensorflow-cpu==2.22.0rc0",)),
        ("tensorflow", "2", WITH_GPU, ("tensorflow[and-cuda]==2.21.0",)),
        ("tensorflow", "2.20", Machine("3.11.7", {"tensorflow": "2.20.0"}), ("tensorflow==2.20.0",)),
        ("jax", "", WITH_GPU, ("jax[cuda12]==0.10.2",)),
        ("keras", "", PLAIN, ("keras==3.15.1", "tensorflow-cpu==2.21.0")),
        ("keras", "2", PLAIN, ("keras==2.15.0", "tensorflow-cpu==2.15.1")),
        ("keras", "3", Machine("3.11.7", {"keras": "3.4.0", "torch": "2.13.0"}), ("keras==3.4.0",)),
        ("keras", "3", Machine("3.11.7", {"keras": "3.4.0"}), ("keras==3.15.1", "tensorflow-cpu==2.21.0")),
    ],
)
def test_what_is_pinned(name: str, version: str, machine: Machine, found: tuple[str, ...]) -> None:
    assert pins(name, version, machine=machine) == found


def test_what_a_machine_has_is_not_asked_of_the_index() -> None:
    assert answer("pytorch", "2.13", machine=WITH_TORCH)[1] == []
    assert answer("pytorch", "2.14", machine=WITH_TORCH)[1] == ["torch"]
    assert answer("", "")[1] == []


def test_a_version_that_cannot_be_had_is_answered_with_the_option_that_leads_on() -> None:
    assert refusal("tensorflow", "1.5").startswith(
        "tensorflow 1.5 cannot be had for Python 3.11 on this installation (there are 2.12.0 to 2.21.0): "
        "submit again with --framework tensorflow:2.21."
    )
    assert pins("tensorflow", "2.21") == ("tensorflow-cpu==2.21.0",)
    between = refusal("tensorflow", "2.16")
    assert "nearest to it 2.15.1 and 2.19.1" in between
    assert "--framework tensorflow:2.15." in between
    assert "--framework keras:2.15." in refusal("keras", "2.4")  # its TensorFlow is not there
    assert "the package index has none" in refusal("scikit-learn")


def test_an_index_that_cannot_be_asked_is_not_in_the_way() -> None:
    resolution, asked = answer("pytorch", "2.13", index={})
    assert resolution.environment.packages == ("torch==2.13.*",)
    assert asked == ["torch"]
    assert "could not be asked" in resolution.notes[0]
    assert pins("pytorch", "2.13.0", index={}) == ("torch==2.13.0",)
    assert "name one" in refusal("pytorch", index={})


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("pytroch", "", "Did you mean pytorch? There are jax, keras, lightgbm, mine, python, pytorch,"),
        ("zzz", "", "There is no framework 'zzz' here. There are"),
        ("pytorch", ">=2", "write it as 2, 2.13 or 2.13.0"),
        ("python", "3.5", "Python 3.5 is not the interpreter here, which is 3.11.7: submit again with --framework"),
    ],
)  # fmt: skip
def test_refusals(name: str, version: str, words: str) -> None:
    assert words in refusal(name, version, registered=(Registered("mine", python="/opt/mine"),))


def test_what_the_account_registered_comes_first_the_most_exact_before_the_rest() -> None:
    registered = (
        Registered("tensorflow", "1.5", instead="tensorflow:2.21"),
        Registered("tensorflow", "1", python="/opt/tf1"),
        Registered("mine", "3", python="conda-name"),
        Registered("loop", instead="loop"),
        Registered("torch", python="/opt/torch"),
    )
    mapped, _ = answer("tf", "1.5.0-py3", registered=registered)
    assert mapped.environment.packages == ("tensorflow-cpu==2.21.0",)
    assert mapped.notes == ("framework tf 1.5.0-py3 is taken as framework tensorflow 2.21, as registered.",)
    assert answer("tensorflow", "1.4", registered=registered)[0].environment == EnvironmentRequest(python="/opt/tf1")
    assert pins("tensorflow", "2.21", registered=registered) == ("tensorflow-cpu==2.21.0",)
    assert answer("mine", registered=registered)[0].environment == EnvironmentRequest(python="conda-name")
    assert answer("pytorch", "9", registered=registered, machine=WITH_TORCH)[0].environment.python == "/opt/torch"
    assert "There is no framework 'loop'" in refusal("loop", registered=registered)


def test_an_existing_environment_is_named_by_path_or_name() -> None:
    registered = (Registered("mine", "3", python="/opt/mine/3"), Registered("mine", python="/opt/mine"))
    for python, found in (
        ("/opt/env", "/opt/env"), ("conda-env", "conda-env"), ("~/env", "~/env"), ("mine", "/opt/mine"),
        ("mine:3", "/opt/mine/3"), ("mine:4", "mine:4"),
    ):  # fmt: skip
        resolution, _ = answer("tensorflow", "1.5", python=python, registered=registered)
        assert resolution.environment == EnvironmentRequest(python=found)
    assert "no whole path" in refusal("", python="./env")


def test_another_python_than_the_runtimes_name_is_noted() -> None:
    note = "The manifest's runtimes name Python 3.5; it runs under Python 3.11.7."
    assert answer("pytorch", "2.13", runtime="3.5")[0].notes == (note,)
    assert answer("", runtime="3.5")[0].notes == (note,)
    assert answer("pytorch", "2.13", runtime="3.11")[0].notes == ()
