"""The ``runyard:`` table."""

from __future__ import annotations

import pytest

from runyard.core.spec import Options, Scalar
from runyard.manifest.options import RESERVED
from tests.manifest.reading import FFDL, SERVICE, only, ours, spec

ALL = """
hyper_parameters: {lr: 0.1, width: 64}
env: {K: V}
secrets: [NAME]
tags: [baseline]
priority: 50
after: [training-a1B2c3D4e]
max_runtime: 2h
max_retries: 0
grace: 30s
outputs: ["*.ckpt"]
start_from: training-a1B2c3D4f
launch: learner
python: /path/or/name
warm: auto
network: on
shm: 2Gb
start_after: 2030-01-31T22:00
"""
OPTIONS = Options(
    hyper_parameters=(("lr", 0.1), ("width", 64)),
    env=(("K", "V"),),
    secrets=("NAME",),
    tags=("baseline",),
    priority=50,
    after=("training-a1B2c3D4e",),
    max_runtime_ms=7_200_000,
    max_retries=0,
    grace_ms=30_000,
    outputs=("*.ckpt",),
    start_from="training-a1B2c3D4f",
    launch="learner",
    python="/path/or/name",
    warm="auto",
    network=True,
    shm_mib=1908,
    start_after_ms=1_896_127_200_000,
)


def test_every_key_in_both_dialects() -> None:
    assert spec(ours(ALL)).options == OPTIONS
    table = ours(ALL).split("\n", 1)[1]
    assert spec(SERVICE + table).options == OPTIONS
    assert spec(FFDL + table).options == OPTIONS


def test_what_is_left_out_or_empty_is_the_default() -> None:
    assert spec(ours("priority:\nshm: ~\ntags:\nenv: null\nmax_runtime:")).options == Options()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("0.1", 0.1),
        ("1e-3", 0.001),
        ("1.0", 1.0),
        ("true", True),
        ("False", False),
        ("'true'", "true"),
        ('"1"', "1"),
        ('""', ""),
        ("adam", "adam"),
        ("on", "on"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("0x1F", "0x1F"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("2018-01-01", "2018-01-01"),
        ("'null'", "null"),
        ("'*'", "*"),
    ],
)
def test_hyper_parameter_values(written: str, value: Scalar) -> None:
    ((name, found),) = spec(ours(f"hyper_parameters: {{lr: {written}}}")).options.hyper_parameters
    assert name == "lr"
    assert (type(found), found) == (type(value), value)


def test_environment_values_keep_their_text() -> None:
    found = spec(ours("env: {A: 1.50, B: on, C: , D: 'x y', e_1: ~, F: 0010}")).options.env
    assert found == (("A", "1.50"), ("B", "on"), ("C", ""), ("D", "x y"), ("e_1", ""), ("F", "0010"))


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ("tags: one", "tags", ("one",)),
        ("tags: [b, a, b]", "tags", ("b", "a")),
        ("secrets: KEY", "secrets", ("KEY",)),
        ("after: training-a1B2c3D4e_12", "after", ("training-a1B2c3D4e_12",)),
        ("outputs: runs/**/events.*", "outputs", ("runs/**/events.*",)),
        ("network: off", "network", False),
        ("network: 'No'", "network", False),
        ("network: true", "network", True),
        ("warm: off", "warm", "off"),
        ("grace: 0", "grace_ms", 0),
        ("grace: 1.5", "grace_ms", 1500),
        ("max_runtime: 90", "max_runtime_ms", 90_000),
        ("max_runtime: 1d2h3m4.5s6ms", "max_runtime_ms", 93_784_506),
        ("shm: 64MiB", "shm_mib", 64),
        ("start_after: 2030-01-31T22:00Z", "start_after_ms", 1_896_127_200_000),
        ("start_after: '2030-01-31T23:00+01:00'", "start_after_ms", 1_896_127_200_000),
        ("start_after: 2030-01-31", "start_after_ms", 1_896_048_000_000),
        ("priority: 0", "priority", 0),
        ("priority: 100", "priority", 100),
        ("python: 3.11", "python", "3.11"),
    ],
)
def test_other_values(keys: str, field: str, value: object) -> None:
    assert getattr(spec(ours(keys)).options, field) == value


PROBLEMS = [
    ("priorty: 5", "runyard.priorty", "did you mean `priority`?"),
    ("foo: 5", "runyard.foo", "known here: after, env, grace, hyper_parameters"),
    ("priority: 101", "runyard.priority", "from 0 to 100"),
    ("priority: -1", "runyard.priority", "from 0 to 100"),
    ("priority: '5'", "runyard.priority", "without quotes"),
    ("priority: high", "runyard.priority", "from 0 to 100"),
    ("max_retries: -1", "runyard.max_retries", "from 0"),
    ("max_runtime: 0", "runyard.max_runtime", "above zero"),
    ("max_runtime: 0s", "runyard.max_runtime", "above zero"),
    ("max_runtime: -5s", "runyard.max_runtime", "no duration"),
    ("max_runtime: 1:30:00", "runyard.max_runtime", "no duration"),
    ("max_runtime: 2 hours", "runyard.max_runtime", "no duration"),
    ("max_runtime: 999999d", "runyard.max_runtime", "at most 3650 days"),
    ("max_runtime: [2h]", "runyard.max_runtime", "a duration, not a list"),
    ("grace: soon", "runyard.grace", "no duration"),
    ("shm: 2", "runyard.shm", "with its unit"),
    ("tags: [a b]", "runyard.tags[0]", "no space"),
    ("tags: ['a,b']", "runyard.tags[0]", "no comma"),
    ("tags: ['']", "runyard.tags[0]", "1 to 64"),
    ("tags: [ok, {a: b}]", "runyard.tags[1]", "not a table"),
    ("tags: {a: b}", "runyard.tags", "not a table"),
    ("after: [training-short]", "runyard.after[0]", "whole id"),
    ("after: [last]", "runyard.after[0]", "whole id"),
    ("start_from: training-a1B2c3D4e_x", "runyard.start_from", "whole id"),
    ("outputs: [/etc/passwd]", "runyard.outputs[0]", "below the working directory"),
    ("outputs: [../x]", "runyard.outputs[0]", "below the working directory"),
    ("outputs: [a/..]", "runyard.outputs[0]", "below the working directory"),
    ("launch: node", "runyard.launch", "learner, gpu"),
    ("warm: on", "runyard.warm", "auto, off"),
    ("network: maybe", "runyard.network", "on or off"),
    ("network: [on]", "runyard.network", "on or off, not a list"),
    ("python: ' '", "runyard.python", "not empty"),
    ("env: [A, B]", "runyard.env", "names and values, not a list"),
    ("env: {A: [1]}", "runyard.env.A", "not a list"),
    ("env: {1A: x}", "runyard.env", "A name here cannot be an environment variable"),
    ("env: {A-B: x}", "runyard.env", "`A-B` cannot be an environment variable"),
    ("env: {A: x, A: y}", "runyard.env", "`A` is given twice"),
    ("env: {DATA_DIR_mnist: x}", "runyard.env", "`DATA_DIR_mnist` is set by Runyard"),
    ("env: {RUNYARD_HOME: x}", "runyard.env", "set by Runyard"),
    ("secrets: [RANK]", "runyard.secrets[0]", "`RANK` is set by Runyard"),
    ("secrets: [a b]", "runyard.secrets[0]", "This cannot be an environment variable"),
    ("env: {A: x}\nsecrets: [A]", "runyard.secrets", "`A` is in `env` too"),
    ("hyper_parameters: {1x: 1}", "runyard.hyper_parameters", "cannot be a hyper-parameter"),
    ("hyper_parameters: {a b: 1}", "runyard.hyper_parameters", "cannot be a hyper-parameter"),
    ("hyper_parameters: {lr: [1, 2]}", "runyard.hyper_parameters.lr", "--set"),
    ("hyper_parameters: {opt: {lr: 1}}", "runyard.hyper_parameters.opt", "not a table"),
    ("hyper_parameters: {lr: }", "runyard.hyper_parameters.lr", "a number, true, false or text"),
    ("hyper_parameters: {lr: .inf}", "runyard.hyper_parameters.lr", "a number, true, false or text"),
    ("hyper_parameters: {lr: 1e999}", "runyard.hyper_parameters.lr", "quote it"),
    ("hyper_parameters: {lr: 99999999999999999999}", "runyard.hyper_parameters.lr", "quote it"),
    ("priority: 1\npriority: 2", "runyard.priority", "given twice"),
    ("hyper_parameters: 3", "runyard.hyper_parameters", "not a single value"),
]


@pytest.mark.parametrize(("keys", "path", "sentence"), PROBLEMS)
def test_problems(keys: str, path: str, sentence: str) -> None:
    line, where, message = only(ours(keys))
    assert (line, where) == (3 + keys.count("\n"), path)
    assert sentence in message


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_no_variable_of_ours_can_be_set(name: str) -> None:
    assert "is set by Runyard itself" in only(ours(f"env: {{{name}: x}}"))[2]


def test_variables_of_the_documented_environment_are_reserved() -> None:
    documented = """DATA_DIR RESULT_DIR CHECKPOINT_DIR MODEL_DIR LOG_DIR JOB_STATE_DIR TRAINING_ID TRAINING_JOB
    TRAINING_COMMAND LEARNER_ID NUM_LEARNERS LEARNER_NAME_PREFIX MASTER_ADDR MASTER_PORT RANK LOCAL_RANK WORLD_SIZE
    GPU_COUNT CUDA_VISIBLE_DEVICES SUBID"""
    assert set(documented.split()) == RESERVED


def test_one_process_a_gpu_needs_a_gpu() -> None:
    text = "gpus: 0\nframework: {command: go}\nrunyard: {launch: gpu}\n"
    line, path, message = only(text)
    assert (line, path) == (3, "runyard.launch")
    assert "at least one GPU" in message
    assert spec(text.replace("gpus: 0", "gpus: 1")).options.launch == "gpu"


def test_a_table_that_is_none() -> None:
    assert "a table of keys, not a list" in only("framework: {command: go}\nrunyard: [a]\n")[2]
