"""The reference pages say what the code says."""

from dataclasses import fields

import pytest

from runyard.core.resources import DEFAULT_CONFIGURATIONS
from runyard.settings import Settings
from tools import gen_reference


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return gen_reference.pages()


def test_the_pages_are_what_the_generator_writes(pages: dict[str, str]) -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in gen_reference.FOLDER.iterdir()}
    assert found == pages, f"run `{gen_reference.COMMAND}`"


def test_every_setting_and_size_has_its_row(pages: dict[str, str]) -> None:
    for each in fields(Settings):
        assert f"| `{each.name}` |" in pages["settings.md"]
    for name in DEFAULT_CONFIGURATIONS:
        assert f"| `{name}` |" in pages["configurations.md"]


def first_cells(page: str, title: str) -> list[str]:
    section = page.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return [line.split("|")[1].strip(" `") for line in section.splitlines() if line.startswith("| `")]


def test_keys_are_found_to_the_last_level(pages: dict[str, str]) -> None:
    one, two = (first_cells(pages["manifest.md"], f"Dialect {which}") for which in ("one", "two"))
    assert "model_definition.execution.compute_configuration.nodes" in one
    assert "training_data_reference[].source.bucket" in one
    assert "evaluation_metrics.groups.NAME.scalars.NAME.value" in two
    assert len(one) == len(set(one))
    assert {"hyper_parameters", "launch", "shm"} <= set(first_cells(pages["manifest.md"], "Keys of ours"))
    assert "`auth_url`" in pages["manifest.md"]


def test_a_setting_without_words_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    words = dict(gen_reference.MEANINGS)
    words.pop("cache_gib")
    monkeypatch.setattr(gen_reference, "MEANINGS", words)
    with pytest.raises(ValueError, match="cache_gib"):
        gen_reference.settings()
