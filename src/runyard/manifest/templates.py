"""Templates: manifests to begin with, commented."""

from __future__ import annotations

from typing import Final

from runyard.core.errors import NotFound
from runyard.manifest import options
from runyard.manifest.findings import suggestion

_TRAINING_RUN: Final = """\
# A training run:  runyard train FOLDER THIS-FILE
model_definition:
  name: my-model                       # need not be unique
  description: What this run is for
  author:
    name: Your Name
    email: you@example.com
  framework:                           # `runyard list frameworks` tells which there are
    name: pytorch
    version: "2"
  execution:
    # Runs under bash in the folder of your code. The program finds its data in $DATA_DIR
    # and leaves its model in $RESULT_DIR/model.
    command: python3 train.py --data ${DATA_DIR} --lr {learning_rate}
    compute_configuration:
      name: small                      # 1 GPU; cpu has none
      nodes: 1                         # more than 1: a distributed run

training_data_reference:               # a list may stand here; leave it out if there are no data
  name: training-data
  type: local                          # the embedded store: `runyard data push FOLDER my-data`
  source:
    bucket: my-data                    # or bucket/folder

# Data in an object store elsewhere; a stored connection keeps the keys out of this file:
# training_data_reference:
#   name: training-data
#   type: s3
#   connection: my-connection          # or endpoint_url, access_key_id and secret_access_key
#   source:
#     bucket: my-data

training_results_reference:            # the results are put below <id of the run>/
  name: training-results
  type: local
  target:
    bucket: results

runyard:
  hyper_parameters:                    # in config.json, as {name} in the command, and what --set sets
    learning_rate: 0.1
"""

_TRAINING_DEFINITION: Final = """\
# A training definition: a model definition that experiments use again and again.
name: my-training-definition
description: What it trains
author:
  name: Your Name
  email: you@example.com
framework:
  name: pytorch
  version: "2"
training_data_reference:               # a list may stand here
- name: training-data
  connection:
    endpoint_url: https://s3.example.com
    access_key_id: YOUR-ACCESS-KEY
    secret_access_key: YOUR-SECRET-KEY
  source:
    bucket: my-data
    type: s3
"""

_EXPERIMENT: Final = """\
# An experiment: each of its runs makes one training run for each reference.
settings:
  name: my-experiment
  description: What it compares
  author:
    name: Your Name
    email: you@example.com
training_references:
- name: small-steps
  training_definition_url: ID-OF-A-TRAINING-DEFINITION
  command: python3 train.py --lr 0.001
  compute_configuration:
    name: small
- name: large-steps
  training_definition_url: ID-OF-A-TRAINING-DEFINITION
  command: python3 train.py --lr 0.01
  compute_configuration:
    name: small
training_results_reference:
  name: experiment-results
  connection:
    endpoint_url: https://s3.example.com
    access_key_id: YOUR-ACCESS-KEY
    secret_access_key: YOUR-SECRET-KEY
  target:
    bucket: experiment-results
  type: s3
"""


def generate(kind: str = "training-runs") -> str:
    """A commented manifest to begin with: for ``training-runs``, ``training-definitions`` or ``experiments``.

    The names are those of the command line; the singular is understood. Raises
    :class:`~runyard.core.errors.NotFound` for another kind.
    """
    templates = {
        "training-runs": _TRAINING_RUN + _optional_keys(),
        "training-definitions": _TRAINING_DEFINITION,
        "experiments": _EXPERIMENT,
    }
    found = templates.get(kind) or templates.get(f"{kind}s")
    if found is None:
        raise NotFound(f"There is no template of this name: {suggestion(kind, templates)}")
    return found


def _optional_keys() -> str:
    """The other keys of the ``runyard:`` table, each as a comment."""
    lines: list[str] = []
    for key in options.TABLE.keys:
        if key is not options.HYPER_PARAMETERS:
            lines += [f"  # {key.about}", f"  # {key.name}: {key.sample}"]
    return "\n".join(lines) + "\n"
