"""``show``: all that is known of a run, and what to do next."""

from __future__ import annotations

import click

from runyard.cli.origin import commit_text, data_text, environment_text, location_text
from runyard.cli.selecting import many, selectors
from runyard.cli.session import Session, common
from runyard.cli.table import pairs, table
from runyard.cli.times import duration, local, money, now, span
from runyard.client.decode import Json, child, integer, number, text, texts
from runyard.client.records import Attempt, Run


@click.command()
@selectors()
@common
@click.pass_obj
def show(session: Session, words: tuple[str, ...]) -> None:
    """Show all that is known of a run: where it is and why, its attempts, its times, and what to do next."""
    ids = many(session, "show", words)
    runs = [session.client.run(each) for each in ids]
    if session.json:
        session.emit(runs[0].raw if len(runs) == 1 else [run.raw for run in runs])
        return
    for number_, run in enumerate(runs):
        session.out(("\n" if number_ else "") + describe(session, run))
        session.say("\n" + next_step(session, run))


def describe(session: Session, run: Run) -> str:
    """A run as text: keys and values, its times, its attempts."""
    raw = run.raw
    resources = child(raw, "resources")
    blocks = [
        pairs(
            [
                ("id", run.id),
                ("name", run.name),
                ("description", text(raw, "description")),
                ("state", _state(session, run)),
                ("because", run.sentence),
                ("fault", "" if run.fault in (None, "none") else f"{run.fault}'s"),
                ("place", f"{run.position} in the queue" if run.position else ""),
                ("expected", f"to start at {local(run.estimate)}" if run.estimate else ""),
                ("exit code", "" if run.exit_code is None else str(run.exit_code)),
                ("parameters", _parameters(run.hyper_parameters)),
                ("command", run.command),
                ("framework", text(raw, "framework")),
                ("environment", environment_text(child(raw, "environment"))),
                ("asks for", resources_text(resources, integer(raw, "learners") or 1)),
                ("launch", "one process for each GPU" if text(raw, "launch") == "gpu" else ""),
                ("after", ", ".join(texts(raw, "after"))),
                ("starts from", text(raw, "start_from")),
                ("secrets", ", ".join(texts(raw, "secrets"))),
                ("priority", str(run.priority)),
                ("tags", ", ".join(run.tags)),
                ("data", data_text(raw)),
                ("results", location_text(run.results)),
                ("code", (run.definition or "")[:12]),
                ("commit", commit_text(raw)),
                ("used", _used(run)),
                ("start", _way(run)),
                ("notes", "\n".join(run.notes)),
            ]
        ),
        _timeline(run),
    ]
    if run.attempts:
        blocks.append(_attempts(session, run.attempts))
    return "\n\n".join(block for block in blocks if block)


def _state(session: Session, run: Run) -> str:
    why = run.readiness if run.state == "waiting" else run.reason
    return session.state(run.state) + (f" ({why})" if why and why != "finished" else "")


def _parameters(parameters: Json) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def resources_text(resources: Json, learners: int = 1) -> str:
    """What a run asks for, e.g. ``1 GPU, 4 CPU, 24 GB``; of several learners what each has, and all."""
    if not resources:
        return ""
    gpus, cpus, memory = (number(resources, key) for key in ("gpus", "cpus", "memory_mib"))
    each = f"{gpus / learners:g} GPU, {cpus / learners:g} CPU, {memory / learners / 1024:.3g} GB"
    return each if learners == 1 else f"{learners} learners, each {each} (in all {gpus:g} GPU, {cpus:g} CPU)"


def _used(run: Run) -> str:
    cost = f", cost {money(run.cost)}" if money(run.cost) else ""
    return f"{run.gpu_seconds:g} GPU-seconds{cost}" if run.gpu_seconds or cost else ""


def _timeline(run: Run) -> str:
    """When it came to each step, and how long each took."""
    steps = [
        ("accepted", run.created_at),
        ("staged", run.staged_at),
        ("started", run.started_at),
        ("ended", run.finished_at),
        ("stored", run.stored_at),
    ]
    lines: list[tuple[str, str]] = []
    before = None
    for name, moment in steps:
        if moment is not None:
            after = "" if before is None else f"  +{span((moment - before).total_seconds())}"
            lines.append((name, local(moment) + after))
            before = moment
    if run.started_at is not None and run.finished_at is None:
        lines.append(("now", f"{local(now())}  running for {duration(run)}"))
    return pairs(lines)


def _way(run: Run) -> str:
    """Which way the latest program was started."""
    latest = run.attempts[-1] if run.attempts else None
    return "" if latest is None or latest.way is None else f"{latest.way}. {latest.way_note}".strip()


def _attempts(session: Session, attempts: tuple[Attempt, ...]) -> str:
    rows = [
        (
            str(each.number),
            each.node,
            ",".join(map(str, each.slots)),
            session.state(each.state),
            _held(each),
            "" if each.exit_code is None else str(each.exit_code),
            "" if each.peak_memory_mib is None else f"{each.peak_memory_mib} MiB",
            each.sentence or each.reason or "",
        )
        for each in attempts
    ]
    return table(("ATTEMPT", "MACHINE", "SLOTS", "STATE", "HELD", "EXIT", "PEAK", "WHY"), rows, flexible=7)


def _held(attempt: Attempt) -> str:
    if attempt.assigned_at is None:
        return ""
    return span(((attempt.released_at or now()) - attempt.assigned_at).total_seconds())


def next_step(session: Session, run: Run) -> str:
    """What a person would do next."""
    program, run_id = session.program, run.id
    if run.state == "waiting":
        return f"next: {program} explain {run_id} | {program} cancel {run_id}"
    if run.state == "completed":
        return f"next: {program} download {run_id} | {program} logs {run_id}"
    if run.final:
        return f"next: {program} logs {run_id} --tail 50 | {program} events {run_id}"
    return f"next: {program} logs --follow {run_id} | {program} cancel {run_id}"
