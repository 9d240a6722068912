"""A manifest's text to a run specification, whichever dialect it is written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from runyard.core.resources import ComputeConfiguration
from runyard.core.spec import Credentials, Location, ResourceRequest, RunSpec
from runyard.manifest import ffdl, service
from runyard.manifest.draft import Draft, distinct_names
from runyard.manifest.findings import Findings, Place, nearest
from runyard.manifest.kinds import Whole
from runyard.manifest.nodes import MapNode, Node, ScalarNode, compose, describe
from runyard.manifest.options import LAUNCH, RUNYARD
from runyard.manifest.overrides import NO_OVERRIDES, Overrides, data_references, with_options, with_paths
from runyard.manifest.placeholders import without_open_connections
from runyard.manifest.stores import keyed
from runyard.manifest.tables import Opened

_SERVICE_MARKS = frozenset(key.name for key in service.TABLE.keys) - {RUNYARD.name}
_FFDL_MARKS = frozenset(key.name for key in ffdl.TABLE.keys) - {RUNYARD.name}
_FFDL_SURE = frozenset(["framework", "data_stores", "evaluation_metrics"])


@dataclass(frozen=True, slots=True)
class Parsed:
    """A run specification without secrets, and the secrets split off from it.

    ``secrets`` are under the keys that :attr:`Connection.secret` refers to: ``results``, ``data/0``, ``data/1``, ...
    ``notes`` are sentences about keys that were accepted and have no effect.
    """

    spec: RunSpec
    secrets: Mapping[str, Credentials] = field(default_factory=dict[str, Credentials], repr=False)
    notes: tuple[str, ...] = ()


def parse(
    text: str, *, configurations: Mapping[str, ComputeConfiguration], overrides: Overrides = NO_OVERRIDES
) -> Parsed:
    """Read a manifest of either dialect, with ``overrides`` laid over it.

    Raises :class:`~runyard.core.errors.ManifestError` with every problem found, each with its line (from 1; 0 for what
    stands in no line) and path. No message repeats what stands where a secret belongs.
    """
    findings = Findings()
    root = without_open_connections(with_paths(compose(text), overrides, findings), findings)
    if not isinstance(root, MapNode):
        findings.add(f"A manifest is a table of keys, not {describe(root)}.", root.line, "")
        findings.check()
    dialect = dialect_of(root, findings)
    root = with_options(root, overrides, dialect, findings)
    table = service.TABLE if dialect == "service" else ffdl.TABLE
    opened = table.read(root, Place(findings, line=root.line))
    if opened is None:
        findings.check()
        raise AssertionError("a table that was not read was reported")
    draft = service.read(opened, configurations) if dialect == "service" else ffdl.read(opened)
    draft = _with_rest(draft, overrides, findings)
    findings.check()
    _check_whole(draft, opened)
    findings.check()
    return _split(draft, tuple(findings.notes))


def dialect_of(root: Node, findings: Findings) -> str:
    """Tell the dialect by the keys at the top. Raises ``ManifestError`` where they tell none, or both."""
    entries = root.entries if isinstance(root, MapNode) else ()
    keys = {entry.key for entry in entries}
    lines = {entry.key: entry.line for entry in entries}
    if "training_references" in keys:
        findings.add("This describes an experiment, and not a training run.", lines["training_references"], "")
    elif "model_definition" in keys and (both := sorted(keys & _FFDL_SURE)):
        findings.add(
            f"`model_definition` is of one dialect and `{both[0]}` of the other: choose one.", lines[both[0]], both[0]
        )
    elif "model_definition" in keys:
        return "service"
    elif "training_data_reference" in keys and "framework" in keys:
        findings.add("This describes a training definition, and not a training run: it has no `execution`.", 1, "")
    elif keys & _FFDL_SURE:
        return "ffdl"
    else:
        likely = {each for key in sorted(keys)[:100] if (each := nearest(key, _SERVICE_MARKS | _FFDL_SURE)) is not None}
        if likely:
            return "service" if likely & _SERVICE_MARKS else "ffdl"
        findings.add("This is no manifest: it needs `model_definition`, or `framework` with its `command`.", 0, "")
    findings.check()
    raise AssertionError("a manifest without a dialect was reported")


def _with_rest(draft: Draft, overrides: Overrides, findings: Findings) -> Draft:
    """Lay over what the tree cannot hold: data of the embedded store, and GPUs beside a compute configuration."""
    if overrides.data:
        draft = replace(draft, data=data_references(overrides, findings))
    if overrides.gpus is not None and draft.dialect == "service":
        gpus = Whole(0, ffdl.MAX_GPUS).read(ScalarNode(str(overrides.gpus)), Place(findings, "--gpus"))
        if gpus is not None and gpus != draft.request.resources.gpus:
            request = draft.request
            resources = replace(request.resources, gpus=gpus)
            draft = replace(draft, request=ResourceRequest(resources, None, request.learners, request.gpu_type))
    return draft


def _check_whole(draft: Draft, opened: Opened) -> None:
    """Report what is wrong only in the light of the whole manifest."""
    distinct_names(draft.data)
    options = opened[RUNYARD]
    if draft.options.launch == "gpu" and draft.request.resources.gpus == 0 and options is not None:
        options.at(LAUNCH).say("One process for each GPU needs at least one GPU.")


def _split(draft: Draft, notes: tuple[str, ...]) -> Parsed:
    """Split the secrets from a draft without problems."""
    secrets: dict[str, Credentials] = {}
    locations: list[Location] = []
    for index, (reference, _) in enumerate(draft.data):
        location, found = keyed(reference, f"data/{index}")
        locations.append(location)
        secrets |= found
    results, found = keyed(draft.results, "results")
    spec = RunSpec(
        name=draft.name,
        command=draft.command,
        request=draft.request,
        data=tuple(locations),
        results=results,
        framework=draft.framework,
        metrics=draft.metrics,
        options=draft.options,
        description=draft.description,
        author=draft.author,
        email=draft.email,
        dialect=draft.dialect,
    )
    return Parsed(spec, secrets | found, notes)
