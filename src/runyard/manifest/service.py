"""Dialect one, the Service's: ``model_definition`` and references to data and results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runyard.core.resources import ComputeConfiguration, Resources
from runyard.core.spec import EvaluationMetrics, Framework, ResourceRequest
from runyard.manifest import draft
from runyard.manifest.draft import Draft
from runyard.manifest.findings import Place, suggestion
from runyard.manifest.kinds import Many, Text, Whole
from runyard.manifest.options import RUNYARD, options
from runyard.manifest.stores import CONNECTION, DEFAULT_RESULTS, TYPE, Bucket, Reference, refer, store_kind
from runyard.manifest.tables import Key, Opened, Table

MAX_NODES: Final = 1000
DEFAULT_CONFIGURATION: Final = "small"

NAME: Final = Key[str]("name", Text(limit=256), draft.UNTITLED, "Name of the run; need not be unique.")
DESCRIPTION: Final = Key[str]("description", draft.DESCRIPTION_TEXT, "", "What the run is for.")

AUTHOR_NAME: Final = Key[str]("name", Text(limit=256), "", "Name of the author.")
AUTHOR_EMAIL: Final = Key[str]("email", Text(limit=256), "", "Address of the author.")
AUTHOR: Final = Key[Opened | None](
    "author", Table((AUTHOR_NAME, AUTHOR_EMAIL), short="name"), None, "Who wrote the model definition."
)

FRAMEWORK_NAME: Final = Key[str]("name", Text(limit=256), "", "Name of the framework, such as pytorch.")
FRAMEWORK_VERSION: Final = Key[str]("version", Text(limit=256), "", "Version of the framework.")
RUNTIME_NAME: Final = Key[str]("name", Text(limit=256), "", "Name of the language, such as python.")
RUNTIME_VERSION: Final = Key[str]("version", Text(limit=256), "", "Version of the language.")
RUNTIMES: Final = Key[tuple[Opened, ...]](
    "runtimes",
    Many(Table((RUNTIME_NAME, RUNTIME_VERSION)), limit=10),
    (),
    "Versions of the language, as the Service wrote them. The machine's Python is used; a note says where it differs.",
)
FRAMEWORK: Final = Key[Opened | None](
    "framework",
    Table((FRAMEWORK_NAME, FRAMEWORK_VERSION, RUNTIMES)),
    None,
    "The framework; without it, what the interpreter has.",
)

CONFIGURATION: Final = Key[str](
    "name",
    Text(limit=256),
    DEFAULT_CONFIGURATION,
    "Name of a compute configuration; upper and lower case are the same.",
)
NODES: Final = Key[int]("nodes", Whole(1, MAX_NODES), 1, "How many learners, each of that size.")
COMPUTE: Final = Key[Opened | None](
    "compute_configuration",
    Table((CONFIGURATION, NODES), short="name"),
    None,
    f"Size of the run. Without it: {DEFAULT_CONFIGURATION}.",
)
COMMAND: Final = Key[str](
    "command", draft.COMMAND_TEXT, "", "What to run, under bash, in the folder of the model definition.", required=True
)
EXECUTION: Final = Key[Opened | None](
    "execution", Table((COMMAND, COMPUTE)), None, "The command and its size.", required=True
)
MODEL_DEFINITION: Final = Key[Opened | None](
    "model_definition",
    Table((NAME, DESCRIPTION, AUTHOR, FRAMEWORK, EXECUTION)),
    None,
    "The run: its name, framework, command and size.",
    required=True,
)

REFERENCE_NAME: Final = Key[str](
    "name", Text(limit=256), "", "Name of the reference; with several, DATA_DIR_<name> is its folder."
)
BUCKET: Final = Key[tuple[str, str]](
    "bucket", Bucket(), ("", ""), "The bucket, or bucket/prefix for a folder in it.", required=True
)
_BUCKETS: Final = Table((BUCKET, TYPE), short="bucket")
SOURCE: Final = Key[Opened | None]("source", _BUCKETS, None, "Where the data are.", required=True)
TARGET: Final = Key[Opened | None]("target", _BUCKETS, None, "Where the results go.", required=True)
DATA_TABLE: Final = Table((REFERENCE_NAME, CONNECTION, SOURCE, TYPE))
RESULTS_TABLE: Final = Table((REFERENCE_NAME, CONNECTION, TARGET, TYPE))
DATA: Final = Key[tuple[Opened, ...]](
    "training_data_reference",
    Many(DATA_TABLE, limit=100),
    (),
    "Where the data are: a table, or a list of them. Without it, the run has none.",
)
RESULTS: Final = Key[Opened | None](
    "training_results_reference",
    RESULTS_TABLE,
    None,
    "Where the results go. Without it: the bucket `results` of the embedded store.",
)
TABLE: Final = Table((MODEL_DEFINITION, DATA, RESULTS, RUNYARD))


def read(opened: Opened, configurations: Mapping[str, ComputeConfiguration]) -> Draft:
    """Map a manifest of this dialect; problems go to its findings."""
    model, execution, author, framework = None, None, None, None
    if (model := opened[MODEL_DEFINITION]) is not None:
        execution, author, framework = model[EXECUTION], model[AUTHOR], model[FRAMEWORK]
    compute = execution[COMPUTE] if execution is not None else None
    results = opened[RESULTS]
    return Draft(
        dialect="service",
        name=model[NAME] if model is not None else "",
        command=execution[COMMAND].strip() if execution is not None else "",
        request=_request(compute, opened.place, configurations),
        data=tuple((_reference(each, SOURCE), each.at(REFERENCE_NAME)) for each in opened[DATA]),
        results=_reference(results, TARGET) if results is not None else Reference(DEFAULT_RESULTS),
        framework=framework_of(framework),
        options=options(opened[RUNYARD]),
        metrics=EvaluationMetrics(),
        description=model[DESCRIPTION].strip() if model is not None else "",
        author=author[AUTHOR_NAME] if author is not None else "",
        email=author[AUTHOR_EMAIL] if author is not None else "",
    )


def framework_of(opened: Opened | None) -> Framework:
    """The framework of a ``framework:`` table."""
    if opened is None:
        return Framework()
    pythons = [each[RUNTIME_VERSION] for each in opened[RUNTIMES] if each[RUNTIME_NAME].lower().startswith("python")]
    return draft.framework_at(opened, FRAMEWORK_NAME, FRAMEWORK_VERSION, pythons[0] if pythons else "")


def _request(
    compute: Opened | None, root: Place, configurations: Mapping[str, ComputeConfiguration]
) -> ResourceRequest:
    asked = compute[CONFIGURATION] if compute is not None else DEFAULT_CONFIGURATION
    place = compute.at(CONFIGURATION) if compute is not None else root
    found = {name.lower(): each for name, each in configurations.items()}.get(asked.lower())
    if found is None:
        names = sorted(configurations)
        advice = suggestion(asked, names)
        known = "" if advice.startswith("known") else f" (known here: {', '.join(names)})"
        place.say(f"There is no compute configuration {place.shown(asked, 'of this name')}: {advice}{known}")
        return ResourceRequest(Resources())
    return ResourceRequest(found.resources, found.name, compute[NODES] if compute is not None else 1)


def _reference(opened: Opened, part: Key[Opened | None]) -> Reference:
    """Read a reference whose bucket is in ``source`` or ``target``, and whose ``type`` is there or beside it."""
    inner, word, bucket = opened[part], opened[TYPE], ("", "")
    if inner is not None:
        bucket = inner[BUCKET]
        if word and inner[TYPE] and inner[TYPE] != word:
            inner.at(TYPE).say("This differs from the `type` of the reference: leave one of them out.")
        word = word or inner[TYPE]
    connection = opened[CONNECTION]
    if CONNECTION in opened and connection is None:
        return Reference(DEFAULT_RESULTS)  # its problem is reported
    kind = store_kind(word, connection)
    return refer(kind, connection, opened.at(CONNECTION), bucket, opened[REFERENCE_NAME] or bucket[0])
