"""What programs run with, as people see it: requirements.txt, environments of their own, what cannot be had."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Installation, manifest, running_installation, write_code
from tests.support.wheels import make_wheel, only_from

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

TELL = "import sys, tiny, runyard; print('tiny', tiny.__version__, sys.prefix)"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose package index is a folder, where only virtual environments below ``envs`` may be named."""
    root = tmp_path_factory.mktemp("environments")
    make_wheel(root / "wheels", "tiny", "1.0")
    settings = (
        f"pip_options = {json.dumps(only_from(root / 'wheels'))}\npythons = ['{root}/envs/*', '{sys.prefix}/*']\n"
    )
    with running_installation(root / "yard", "--fake-gpus", "1", settings=settings) as installation:
        write_code(installation.folder / "model", {"train.py": TELL, "requirements.txt": "tiny\n"})
        write_code(installation.folder / "bare", {"train.py": "import sys; print(sys.prefix)"})
        write_code(installation.folder / "wrong", {"train.py": TELL, "requirements.txt": "tiny==7\n"})
        for name, extra in (("plain", ""), ("old", "framework: {name: vision, version: 1.2}")):
            text = manifest("python train.py", name=name)
            text = text.replace("  execution:", f"  {extra}\n  execution:") if extra else text
            (installation.folder / f"{name}.yml").write_text(text)
        yield installation


def listed(shop: Installation) -> list[dict[str, Any]]:
    """The runs, newest first."""
    return json.loads(shop.cli("list", "--json").stdout)


def fetched(shop: Installation, run: str) -> int:
    """Bytes that had to be fetched or built for a run."""
    (staged,) = [each for each in shop.events() if each["kind"] == "staged" and each["run"] == run]
    return staged["fetched"]


def test_requirements_are_installed_once(shop: Installation) -> None:
    shop.cli("train", "model", "plain.yml", "--wait")
    done = shop.cli("train", "model", "plain.yml", "--follow")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("tiny 1.0 ")]
    assert line.startswith(f"tiny 1.0 {shop.home}/node/cache/env/")
    second, first = listed(shop)[:2]
    assert first["id"] != second["id"]
    assert (fetched(shop, first["id"]) > 300, fetched(shop, second["id"])) == (True, 0)
    assert "nothing is built" in shop.cli("logs", "--stream", "load-model", second["id"]).stdout
    shown = shop.json("show", second["id"])["environment"]
    assert shown["packages"]["tiny"] == "1.0"
    assert f"{len(shown['packages'])} packages: {shown['interpreter']}" in shop.cli("show", second["id"]).stdout


def test_what_cannot_be_had_fails_with_pips_own_words(shop: Installation) -> None:
    failed = shop.cli("train", "wrong", "plain.yml", "--wait", check=1)
    assert "pip: No matching distribution found for tiny==7." in failed.stderr + failed.stdout
    run = listed(shop)[0]
    assert (run["reason"], run["fault"]) == ("environment_failed", "user")
    log = shop.cli("logs", "--stream", "load-model", run["id"]).stdout
    assert "ERROR: No matching distribution found for tiny==7" in log
    shop.cli("download", run["id"])
    kept = (shop.folder / run["id"] / "learner-1" / "load-model.log").read_text()
    assert kept == log


def test_an_environment_of_ones_own_by_path_and_by_name(shop: Installation) -> None:
    env = shop.home.parent.parent / "envs" / "vision"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    done = shop.cli("train", "bare", "plain.yml", "--python", str(env), "--follow")
    assert f"\n{env}\n" in f"\n{done.stdout}"
    assert "vision:1.2" in shop.cli("frameworks", "add", "vision:1.2", "--python", str(env)).stdout
    assert f"\n{env}\n" in f"\n{shop.cli('train', 'bare', 'old.yml', '--follow').stdout}"
    row = next(line for line in shop.cli("list", "frameworks").stdout.splitlines() if line.startswith("vision:1.2"))
    assert row.split() == ["vision:1.2", str(env)]
    registered = shop.json("frameworks", "list")["registered"]
    assert [(each["name"], each["version"], each["python"]) for each in registered] == [("vision", "1.2", str(env))]
    shop.cli("frameworks", "rm", "vision:1.2")
    refused = shop.cli("train", "bare", "old.yml", check=4)
    assert "There is no framework 'vision' here." in refused.stderr


@pytest.mark.parametrize(
    ("python", "words"),
    [("/nowhere/env", "This machine has no /nowhere/env"), ("/usr/bin/python3", "may not be used here")],
)
def test_a_python_that_is_not_there_or_not_allowed(shop: Installation, python: str, words: str) -> None:
    if not Path(python).exists() and words.startswith("may"):
        pytest.skip(f"this machine has no {python}")
    failed = shop.cli("train", "bare", "plain.yml", "--python", python, "--wait", check=1)
    assert words in failed.stdout + failed.stderr
