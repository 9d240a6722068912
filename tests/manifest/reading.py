"""Manifests to read, and short ways to read them."""

from __future__ import annotations

import textwrap

from runyard.core.errors import ManifestError, Problem
from runyard.core.resources import DEFAULT_CONFIGURATIONS
from runyard.core.spec import RunSpec
from runyard.manifest import Overrides, Parsed, parse

SERVICE = """\
model_definition:
  name: tf-mnist
  description: Digits
  author: {name: Ada Example, email: ada@example.org}
  framework: {name: tensorflow, version: 1.50}
  execution:
    command: python3 train.py --images ${DATA_DIR}/images.gz && echo done
    compute_configuration: {name: K80x2, nodes: 3}
training_data_reference:
  name: MNIST image data files
  connection:
    endpoint_url: https://s3.example.com
    access_key_id: KEYID
    secret_access_key: SECRET
  source: {bucket: mnist-training-data}
  type: s3
training_results_reference:
  name: models
  connection:
    endpoint_url: https://s3.example.com:9000/base
    aws_access_key_id: KEYID2
    aws_secret_access_key: SECRET2
    region: eu-de
  target: {bucket: mnist-training-models, type: s3}
"""

FFDL = """\
name: tf_tutorial
description: Digits
version: "1.0"
gpus: 2
cpus: 0.5
memory: 1Gb
learners: 2
gpu_type: nvidia-TeslaV100
data_stores:
  - id: my-store
    type: mount_cos
    training_data: {container: tf_training_data}
    training_results: {container: tf_trained_model}
    connection: {auth_url: 'http://10.0.0.5:30851', user_name: KEYID, password: SECRET, region: us}
framework:
  name: tensorflow
  version: "1.5.0-py3"
  command: >
    python3 train.py
    --images ${DATA_DIR}/images.gz
evaluation_metrics: {type: tensorboard, in: "$JOB_STATE_DIR/logs/tb"}
"""

SHORT = "model_definition: {execution: {command: go}}\n"


def read(text: str, overrides: Overrides | None = None) -> Parsed:
    text = textwrap.dedent(text)
    if overrides is None:
        return parse(text, configurations=DEFAULT_CONFIGURATIONS)
    return parse(text, configurations=DEFAULT_CONFIGURATIONS, overrides=overrides)


def spec(text: str, overrides: Overrides | None = None) -> RunSpec:
    return read(text, overrides).spec


def problems(text: str, overrides: Overrides | None = None) -> tuple[Problem, ...]:
    """What is wrong with ``text``; nothing if it can be read."""
    try:
        read(text, overrides)
    except ManifestError as error:
        return error.problems
    return ()


def only(text: str, overrides: Overrides | None = None) -> tuple[int, str, str]:
    """Line, path and message of the one problem of ``text``."""
    found = problems(text, overrides)
    assert len(found) == 1, found
    return found[0].line, found[0].path, found[0].message


def ours(keys: str) -> str:
    """A manifest whose ``runyard:`` table has these keys, from line 3 on."""
    return SHORT + "runyard:\n" + textwrap.indent(textwrap.dedent(keys).strip("\n"), "  ") + "\n"
