"""Reading --set and making the runs of a sweep."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.spec import Scalar
from runyard.core.sweep import Axis, expand, parse_scalar, parse_set

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)


def spelled(value: Scalar) -> str:
    """``value`` as a person would have to write it after ``name=``."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def same(left: Scalar, right: Scalar) -> bool:
    return type(left) is type(right) and repr(left) == repr(right)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-3", -3),
        ("+5", 5),
        ("0", 0),
        ("0.1", 0.1),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e-4", 1e-4),
        ("-2.5E+3", -2500.0),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("yes", "yes"),
        ("on", "on"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("1.5.2", "1.5.2"),
        ("nan", "nan"),
        ("inf", "inf"),
        (".inf", ".inf"),
        ("-", "-"),
        (".", "."),
        ("e5", "e5"),
        ("1:30", "1:30"),
        ("٣", "٣"),
        ("", ""),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_an_unquoted_value(text: str, value: Scalar) -> None:
    assert same(parse_scalar(text), value)


@pytest.mark.parametrize("text", ["9223372036854775808", "9" * 5000, "1e999", "-1e999"])
def test_a_number_too_large_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quote it"):
        parse_scalar(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lr=0.1", (0.1,)),
        ("lr=0.1,0.01", (0.1, 0.01)),
        ("lr = 1 , 2 ", (1, 2)),
        ("lr='1',\"2\",3", ("1", "2", 3)),
        ('lr="a,b",c', ("a,b", "c")),
        ('lr="say \\"hi\\" \\\\"', ('say "hi" \\',)),
        ("lr='back\\slash'", ("back\\slash",)),
        ("lr=it's,x", ("it's", "x")),
        ('lr=""', ("",)),
        ("lr=adam,sgd", ("adam", "sgd")),
        ("lr=a=b", ("a=b",)),
        ("lr=../data,a..b:3", ("../data", "a..b:3")),
        ("lr=true,True,false", (True, True, False)),
        ("lr=1..4:4", (1, 2, 3, 4)),
        ("lr=4..1:4", (4, 3, 2, 1)),
        ("lr=1..10:2", (1, 10)),
        ("lr=1..10:3", (1.0, 5.5, 10.0)),
        ("lr=-2..2:5", (-2, -1, 0, 1, 2)),
        ("lr=1.0..4:4", (1.0, 2.0, 3.0, 4.0)),
        ("lr=0..1:11", (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
        ("lr=1e-4..1e-1:4:log", (0.0001, 0.001, 0.01, 0.1)),
        ("lr=1..1000:4:log", (1, 10, 100, 1000)),
        ("lr=16..256:5:log", (16, 32, 64, 128, 256)),
        ("lr=1..10:3:log", (1.0, 3.1622776601684, 10.0)),
        ("lr=0..1000000000000000:4", (0.0, 333333333333330.0, 666666666666670.0, 1e15)),
        ("lr=.5..1.5:3", (0.5, 1.0, 1.5)),
        ("lr=1..3:3,10,'x'", (1, 2, 3, 10, "x")),
        ("lr=-1e308..1e308:3", (-1e308, 0.0, 1e308)),
    ],
)
def test_the_values_of_an_axis(text: str, values: tuple[Scalar, ...]) -> None:
    axis = parse_set(text)
    assert axis.name == "lr"
    assert len(axis.values) == len(values)
    assert all(map(same, axis.values, values)), axis.values


@pytest.mark.parametrize("name", ["lr", "_x", "opt.lr", "a-b", "A9"])
def test_names(name: str) -> None:
    assert parse_set(f"{name}=1") == Axis(name, (1,))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lr", "sets nothing"),
        ("=1", "no name of a hyper-parameter"),
        ("9a=1", "no name of a hyper-parameter"),
        ("a b=1", "no name of a hyper-parameter"),
        ("lr=", "empty value"),
        ("lr=1,", "empty value"),
        ("lr=1,,2", "empty value"),
        ("lr= ", "empty value"),
        ('lr="a', "quote that is not closed"),
        ("lr='a", "quote that is not closed"),
        ("lr= 'a", "quote that is not closed"),
        ('lr="a"b', "text after a closed one"),
        ("lr=0..1", "number of points"),
        ("lr=0..1:", "number of points"),
        ("lr=0..1:x", "number of points"),
        ("lr=0..1:-3", "number of points"),
        ("lr=0..1:3:lin", ":log"),
        ("lr=0..1:1", "at least 2 points"),
        ("lr=0..1:0", "at least 2 points"),
        ("lr=1..1:3", "ends that differ"),
        ("lr=0..1:3:log", "above zero"),
        ("lr=-1..1:3:log", "above zero"),
        ("lr=0..1:999999999", "more than the 10000"),
        ("lr=0..1e999:3", "too large"),
        ("lr=1..1.00000000000000001:9", "ends that differ"),
        ("lr=1.0..1.000000000000001:9", "too near"),
        ("lr=" + "1," * 10_000 + "1", "more than 10000 values"),
        ("lr=99999999999999999999", "quote it"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_set(text)


@given(st.lists(SCALARS, min_size=1, max_size=6))
def test_values_survive_being_written_and_read(values: list[Scalar]) -> None:
    axis = parse_set("k=" + ",".join(map(spelled, values)))
    assert len(axis.values) == len(values)
    assert all(map(same, axis.values, values))


@given(
    st.floats(1e-30, 1e30),
    st.floats(1.001, 1e6),
    st.integers(2, 200),
    st.booleans(),
)
def test_a_range_has_its_ends_and_rises(low: float, factor: float, count: int, log: bool) -> None:
    high = low * factor
    values = parse_set(f"k={low!r}..{high!r}:{count}" + ":log" * log).values
    assert len(values) == count
    assert (values[0], values[-1]) == (low, high)
    numbers = [float(value) for value in values]
    assert numbers == sorted(set(numbers))
    for index, number in enumerate(numbers):
        part = index / (count - 1)
        want = low * factor**part if log else low + (high - low) * part
        assert math.isclose(number, want, rel_tol=1e-9)


@given(st.integers(-1000, 1000), st.integers(1, 50), st.integers(2, 50))
def test_a_range_of_whole_steps_is_whole(low: int, step: int, count: int) -> None:
    values = parse_set(f"k={low}..{low + step * (count - 1)}:{count}").values
    assert values == tuple(range(low, low + step * count, step))
    assert {type(value) for value in values} == {int}


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, "k=" + text):
        try:
            axis = parse_set(candidate)
        except ValueError:
            continue
        assert axis.values
        assert candidate.strip().startswith(axis.name)


def test_the_product_runs_through_the_last_axis_first() -> None:
    axes = (Axis("a", (1, 2)), Axis("b", ("x", "y", "z")))
    assert expand(axes, zipped=False) == (
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 1, "b": "z"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
        {"a": 2, "b": "z"},
    )


def test_zip_pairs() -> None:
    axes = (Axis("a", (1, 1)), Axis("b", ("x", "y")))
    assert expand(axes, zipped=True) == ({"a": 1, "b": "x"}, {"a": 1, "b": "y"})


@pytest.mark.parametrize("zipped", [False, True])
def test_no_axis_is_one_run(zipped: bool) -> None:
    assert expand((), zipped=zipped) == ({},)


def test_each_run_has_its_own_parameters() -> None:
    first, second = expand((Axis("a", (1, 2)),), zipped=False)
    first["a"] = 9
    assert second == {"a": 2}


@pytest.mark.parametrize(
    ("axes", "zipped", "sentence"),
    [
        ((Axis("a", (1,)), Axis("a", (2,))), False, "set twice"),
        ((Axis("a", ()),), False, "no value"),
        ((Axis("a", (1, 2)), Axis("b", (1,))), True, "a has 2, b has 1"),
        ((Axis("a", tuple(range(101))), Axis("b", tuple(range(100)))), False, "10100 runs, and 10000"),
        (tuple(Axis(f"a{n}", (1, 2)) for n in range(200)), False, "and 10000 are allowed"),
    ],
)
def test_what_cannot_be_expanded_is_said(axes: tuple[Axis, ...], zipped: bool, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        expand(axes, zipped=zipped)


def test_the_limit_is_the_callers() -> None:
    axes = (Axis("a", (1, 2, 3)),)
    assert len(expand(axes, zipped=False, limit=3)) == 3
    with pytest.raises(ValueError, match="2 are allowed"):
        expand(axes, zipped=False, limit=2)
    with pytest.raises(ValueError, match="2 are allowed"):
        expand(axes, zipped=True, limit=2)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_product_has_every_combination_once(lengths: list[int]) -> None:
    runs = expand([Axis(f"k{n}", tuple(range(length))) for n, length in enumerate(lengths)], zipped=False)
    rows = [tuple(run.values()) for run in runs]
    assert rows == sorted(set(rows))
    assert len(rows) == math.prod(lengths)
