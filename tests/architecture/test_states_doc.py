"""The page about states says what the tables say."""

import re

import pytest

from runyard.core.reasons import Reason
from runyard.core.run import TRANSITIONS, StateName
from tools import gen_states


def test_the_page_is_what_the_generator_writes() -> None:
    assert gen_states.PAGE.read_text(encoding="utf-8") == gen_states.page(), f"run `{gen_states.COMMAND}`"


def test_the_diagram_has_every_arrow_once() -> None:
    arrows = re.findall(r"^ {4}(\w+) --> (\w+): [^:;]+$", gen_states.diagram(), re.MULTILINE)
    assert len(arrows) == len(set(arrows))
    assert set(arrows) == {(start.value, end.value) for start, ends in TRANSITIONS.items() for end in ends}


def test_the_tables_have_a_row_for_every_state_and_reason() -> None:
    def first_cells(table: str) -> list[str]:
        return [line.split("|")[1].strip(" `") for line in table.splitlines()[2:]]

    assert first_cells(gen_states.states()) == [state.value for state in StateName]
    assert sorted(first_cells(gen_states.reasons())) == sorted(reason.value for reason in Reason)
    for table in (gen_states.states(), gen_states.reasons()):
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()} == {6}


@pytest.mark.parametrize("forgotten", ["MEANINGS", "ARROWS"])
def test_a_state_or_arrow_without_words_is_an_error(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = dict(getattr(gen_states, forgotten))
    words.pop(next(iter(words)))
    monkeypatch.setattr(gen_states, forgotten, words)
    with pytest.raises(ValueError, match="waiting"):
        gen_states.page()
