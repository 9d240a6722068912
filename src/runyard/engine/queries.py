"""Queries: ids and filters in, views out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runyard.core import idle, lifecycle
from runyard.core.errors import Conflict, NotFound, Refused
from runyard.core.ids import RUN_PREFIX, is_run_id
from runyard.core.lifecycle import sentence_of
from runyard.core.metering import LedgerEntry, settle
from runyard.core.reasons import RULES, Reason
from runyard.core.run import HOLDS_SLOT, Attempt, Ending, Finished, Run, Running, StateName, Stopping, Storing, Waiting
from runyard.core.scheduling.explain import READINESS, Standing, estimate_ms, next_there, standing
from runyard.core.scheduling.plan import Plan, Wait, make_plan
from runyard.core.spec import Location
from runyard.engine import after, frameworks
from runyard.engine.inputs import inputs_of
from runyard.engine.metrics import by_label
from runyard.engine.orders import command_of, parameters_of
from runyard.engine.seeing import draining, snapshot
from runyard.engine.views import (
    AttemptView,
    ExplainView,
    LocationView,
    ProgressView,
    QueueItemView,
    QueueView,
    ResourcesView,
    RunView,
    UsageItemView,
    UsageView,
    iso,
    money,
    seconds,
)
from runyard.engine.world import World
from runyard.ports.store import RunQuery, UsageRow

_AMBIGUOUS_SHOWN = 5
_FARTHEST = 100_000
METRICS_LISTED = 4
"""Metrics of each run that a list shows."""
_DIFF = "git_diff"
"""Of what is known about a submission, all but this fits into a list."""
_SO_FAR = Ending(StateName.completed, Reason.finished)


def resolve(world: World, account_id: str, text: str) -> Run:
    """Find a run by its id, a unique beginning of it (with or without ``training-``), ``last`` or ``last-N``."""
    if text == "last" or text.startswith("last-"):
        return _nth_last(world, account_id, text)
    prefix = text if text.startswith(RUN_PREFIX) else RUN_PREFIX + text
    if is_run_id(prefix) and (found := world.store.run(prefix)) is not None and found.account_id == account_id:
        return found
    ids: list[str] = []
    if len(prefix) > len(RUN_PREFIX):
        ids = list(world.store.run_ids(account_id, prefix, _AMBIGUOUS_SHOWN + 1))
    # A complete id may begin others: those of the trials of a search.
    run = world.store.run(ids[0]) if len(ids) == 1 or prefix in ids[:1] else None
    if run is not None:
        return run
    if ids:
        shown = ", ".join(ids[:_AMBIGUOUS_SHOWN])
        raise Conflict(
            f"{text} begins several ids ({shown}{', ...' if len(ids) > _AMBIGUOUS_SHOWN else ''}): add to it."
        )
    raise NotFound(absent(text))


def absent(text: str) -> str:
    """The sentence about a run that is not there."""
    return f"There is no training run {text}: `runyard list` shows those that there are."


def no_account(account_id: str) -> str:
    """The sentence about an account that is not there, or not to be seen."""
    return f"There is no account {account_id}: `runyard accounts list` shows those that there are."


def told(world: World, run: Run) -> str:
    """The sentence about a run, without its place in the queue."""
    return _where(world, run, None).sentence or ""


def _nth_last(world: World, account_id: str, text: str) -> Run:
    number = text.removeprefix("last").removeprefix("-") or "0"
    if not re.fullmatch("[0-9]{1,6}", number) or int(number) > _FARTHEST:
        raise NotFound(f"{text} is no selector: write `last`, or `last-3` for the third before the last.")
    runs = world.store.runs(RunQuery(account_id, limit=int(number) + 1))
    if len(runs) <= int(number):
        raise NotFound(f"There is no training run {text}: there are only {len(runs)}.")
    return runs[int(number)]


def current_plan(world: World) -> Plan:
    """What the scheduler would decide now."""
    return make_plan(snapshot(world, world.clock.now_ms()))


def show(world: World, run: Run) -> RunView:
    """Everything about one run."""
    plan = current_plan(world) if isinstance(run.state, Waiting) else None
    began = bool(run.attempts)
    facts = world.store.spec_facts(run.spec_id)
    return replace(
        view(world, run, world.store.ledger(run.id) if began else (), plan),
        metrics=by_label(world, [run.id]).get(run.id, {}) if began else {},
        environment=frameworks.environment_of(world.specs.get(run.spec_id), facts),
        inputs=inputs_of(facts),
        provenance=world.specs.get(run.spec_id).provenance,
    )


def view(world: World, run: Run, ledger: Sequence[LedgerEntry], plan: Plan | None) -> RunView:
    """A run as it is shown; without a ``plan`` a waiting run gets neither position nor estimate."""
    spec = world.specs.get(run.spec_id)
    where = _where(world, run, plan)
    entries = [*ledger, *_running_entry(world, run)]
    member = world.specs.member(run.member_id)
    progress = world.ready.progress(run.spec_id) if run.ready_on is None else None
    limit = spec.spec.options.max_runtime_ms
    framework = spec.spec.framework
    return RunView(
        id=run.id,
        name=run.name,
        account=run.account_id,
        member=member.name if member is not None else run.member_id,
        state=run.state_name.value,
        readiness=where.readiness,
        reason=where.reason,
        sentence=where.sentence,
        fault=where.fault,
        position=where.position,
        estimate=where.estimate,
        attempts=tuple(_attempt(attempt) for attempt in run.attempts),
        created_at=iso(run.created_ms),
        staged_at=iso(run.staged_ms),
        started_at=iso(run.attempt.started_ms) if run.attempt is not None else None,
        finished_at=iso(run.finished_ms),
        stored_at=iso(run.stored_ms),
        exit_code=where.exit_code,
        gpu_seconds=seconds(sum(e.gpu_ms for e in entries)),
        cpu_seconds=seconds(sum(e.cpu_ms for e in entries)),
        gb_seconds=seconds(sum(e.gb_ms for e in entries)),
        cost=money(sum(e.cost for e in entries)),
        results=location_view(spec.spec.results),
        hyper_parameters=parameters_of(run),
        command=command_of(run, spec),
        framework=" ".join(filter(None, (framework.name, framework.version))),
        resources=ResourcesView(run.resources.gpus, run.resources.cpu_millis / 1000, run.resources.memory_mib),
        learners=spec.spec.request.learners,
        priority=run.priority,
        tags=run.tags,
        notes=run.notes,
        definition=spec.code_sha256,
        description=spec.spec.description,
        staging=ProgressView(*progress) if progress is not None else None,
        after=spec.spec.options.after,
        start_from=spec.spec.options.start_from,
        secrets=spec.spec.options.secrets,
        launch=spec.spec.options.launch,
        max_runtime_seconds=seconds(limit) if limit is not None else None,
        data=tuple(location_view(location) for location in spec.spec.data),
        provenance={key: value for key, value in spec.provenance.items() if key != _DIFF},
    )


def _running_entry(world: World, run: Run) -> list[LedgerEntry]:
    attempt = run.attempt
    if run.state_name not in HOLDS_SLOT or attempt is None:
        return []
    so_far = replace(attempt, released_ms=world.clock.now_ms(), ending=_SO_FAR)
    return [settle(run, so_far, world.rules.price)]


@dataclass(frozen=True, slots=True)
class _Where:
    """Where a run is and why, as far as its state tells."""

    sentence: str | None = None
    readiness: str | None = None
    reason: str | None = None
    fault: str | None = None
    position: int | None = None
    ahead: int | None = None
    estimate: str | None = None
    exit_code: int | None = None


def _where(world: World, run: Run, plan: Plan | None) -> _Where:
    state = run.state
    if isinstance(state, Waiting):
        return _waiting(world, run, state, plan)
    if isinstance(state, Stopping):
        return _Where(f"Asked to stop ({state.cause.value}); its grace runs.", reason=state.cause.value)
    if isinstance(state, Storing):
        trouble = f" Storing failed {state.tries} times, and is tried again: {state.problem}" if state.problem else ""
        away = _away(world, run, "which holds its results; they are stored once it is back, or never if it is canceled")
        return _ended(state.ending, f"{sentence_of(state.ending)} Its results are being stored.{trouble}{away}")
    if isinstance(state, Finished):
        return _ended(state.ending, f"{sentence_of(state.ending)} {state.note}".strip())
    if run.state_name is StateName.starting:
        away = _away(world, run, "on which it is to start")
        return _Where(f"A slot is assigned; the program is being started.{away}", reason="starting")
    trouble = _trouble(world, state) if isinstance(state, Running) else ""
    quiet = state.quiet if isinstance(state, Running) else ""
    away = _away(world, run, "on which it runs; it goes on by itself")
    return _Where(f"The program runs.{trouble}{away}", reason=quiet or None)


def _trouble(world: World, state: Running) -> str:
    """What is wrong with a run that runs, with a space before it."""
    told = [state.trouble] if state.trouble else []
    if state.quiet:
        told.append(idle.sentence(idle.Quiet(state.quiet), world.clock.now_ms() - state.quiet_since_ms))
    return "".join(f" {each}" for each in told)


def _away(world: World, run: Run, what: str) -> str:
    """A sentence about the machine of the latest attempt when it is not connected, else nothing."""
    node_id = run.attempt.node_id if run.attempt is not None else None
    away = [node.name for node in world.store.nodes() if node.id == node_id and not node.connected]
    return f" The machine {away[0]} is not connected, {what}." if away else ""


def _ended(ending: Ending, text: str) -> _Where:
    fault = RULES[ending.reason].fault.value
    return _Where(text, reason=ending.reason.value, fault=fault, exit_code=ending.exit_code)


def _waiting(world: World, run: Run, state: Waiting, plan: Plan | None) -> _Where:
    if lifecycle.is_blocked(run):
        text = after.sentence(world, run) if plan is not None else "Waits for other runs to complete (`after`)."
        return _Where(text, READINESS[Wait.after], READINESS[Wait.after])
    ahead = world.store.ahead_of(run) if plan is not None else None
    position = ahead + 1 if ahead is not None else None
    exit_code = state.previous.exit_code if state.previous is not None else None
    if run.ready_on is None:
        where = _staging(world, run)
    elif state.granted_to is not None:
        where = Standing(READINESS[Wait.capacity], next_there(_name_of(world, state.granted_to)))
    elif plan is None:
        where = Standing("capacity", "Waits for its turn.")
    else:
        where = _drained(world, run, plan) or standing(plan, run.class_id, run.id, ahead=ahead or 0)
    return _Where(
        _with_past(where.sentence, state),
        where.readiness,
        where.readiness,
        position=position,
        ahead=ahead,
        estimate=_estimate(world, run, ahead) if ahead is not None else None,
        exit_code=exit_code,
    )


def _drained(world: World, run: Run, plan: Plan) -> Standing | None:
    """That its machine is being drained, where that is what a run waits for."""
    if plan.heads.get(run.id, (Wait.node_closed, ""))[0] is not Wait.node_closed:
        return None
    nodes = (node for node in world.store.nodes() if node.id == run.ready_on)
    return next((Standing("draining", draining(node)) for node in nodes if node.draining_ms is not None), None)


def _with_past(sentence: str, state: Waiting) -> str:
    """A run that made room, whose GPU failed, or that did nothing, says so while it waits again."""
    previous = state.previous
    if previous is None or previous.reason not in (Reason.preempted, Reason.gpu_failed, Reason.idle_requeued):
        return sentence
    return f"{sentence_of(previous)} {sentence}"


def _name_of(world: World, node_id: str) -> str:
    return next((node.name for node in world.store.nodes() if node.id == node_id), node_id)


def _staging(world: World, run: Run) -> Standing:
    progress = world.ready.progress(run.spec_id)
    nodes = world.store.nodes()
    if not any(node.connected and run.resources.fits_in(node.total) for node in nodes):
        return Standing("staging", "No machine that is large enough is connected: `runyard status` shows those known.")
    if progress is None:
        return Standing("staging", "Its code and data are being made ready.")
    done, total, phase = progress
    if phase:
        return Standing("staging", f"Its environment is being built: {phase}.")
    percent = done * 100 // total if total else 100
    return Standing("staging", f"Its code and data are being fetched: {percent} % of {total} bytes.")


def _estimate(world: World, run: Run, ahead: int) -> str | None:
    total = sum(node.total.gpus for node in world.store.nodes() if node.connected)
    account = world.store.account(run.account_id)
    if account is not None and account.quota_gpus is not None:
        total = min(total, account.quota_gpus)
    slots = total // max(1, run.resources.gpus)
    wait = estimate_ms(
        ahead=ahead, slots=slots, typical_ms=world.store.typical_duration_ms(run.spec_id, run.account_id)
    )
    return iso(world.clock.now_ms() + wait) if wait is not None else None


def _attempt(attempt: Attempt) -> AttemptView:
    ending = attempt.ending
    return AttemptView(
        number=attempt.number,
        node=attempt.node_id,
        slots=attempt.slots,
        assigned_at=iso(attempt.assigned_ms),
        started_at=iso(attempt.started_ms),
        released_at=iso(attempt.released_ms),
        reason=ending.reason.value if ending is not None else None,
        fault=RULES[ending.reason].fault.value if ending is not None else None,
        sentence=sentence_of(ending) if ending is not None else None,
        exit_code=ending.exit_code if ending is not None else None,
        signal=ending.signal if ending is not None else None,
        tamper_proof=attempt.tamper_proof,
        peak_memory_mib=attempt.peak_memory_mib,
        way=attempt.way or None,
        way_note=attempt.way_note,
    )


def location_view(location: Location) -> LocationView:
    """A location as it is shown."""
    connection = location.connection
    return LocationView(
        location.kind.value, location.bucket, location.prefix, connection.endpoint_url, location.name, connection.path
    )


def listing(world: World, query: RunQuery) -> tuple[list[RunView], int | None]:
    """A page of runs, newest first, and the cursor of the next page."""
    runs = world.store.runs(query)
    ledgers = {run.id: world.store.ledger(run.id) for run in runs if run.attempts}
    metrics = by_label(world, [run.id for run in runs if run.attempts], METRICS_LISTED)
    views = [replace(view(world, run, ledgers.get(run.id, ()), None), metrics=metrics.get(run.id, {})) for run in runs]
    return views, runs[-1].seq if len(runs) == query.limit else None


def explain(world: World, run: Run) -> ExplainView:
    """Say where a run stands, why, and what comes next."""
    plan = current_plan(world) if isinstance(run.state, Waiting) else None
    where = _where(world, run, plan)
    reservation = plan.reservations.get(run.id) if plan is not None else None
    return ExplainView(
        id=run.id,
        state=run.state_name.value,
        readiness=where.readiness,
        sentence=where.sentence or "",
        position=where.position,
        ahead=where.ahead,
        estimate=where.estimate,
        steps=_steps(run),
        reserved_at=iso(reservation.at_ms) if reservation is not None else None,
    )


def _steps(run: Run) -> tuple[str, ...]:
    steps = [f"accepted {iso(run.created_ms)}"]
    if run.staged_ms is not None:
        steps.append(f"code and data ready {iso(run.staged_ms)}")
    for attempt in run.attempts:
        steps.append(f"attempt {attempt.number}: slot assigned {iso(attempt.assigned_ms)} on {attempt.node_id}")
        if attempt.started_ms is not None:
            steps.append(f"attempt {attempt.number}: program began {iso(attempt.started_ms)}")
        if attempt.released_ms is not None and attempt.ending is not None:
            end = sentence_of(attempt.ending)
            steps.append(f"attempt {attempt.number}: slot released {iso(attempt.released_ms)}. {end}")
    if run.stored_ms is not None:
        steps.append(f"results stored {iso(run.stored_ms)}")
    return tuple(steps)


def queue(world: World, account_id: str, limit: int) -> QueueView:
    """The waiting runs of an account in the order of the queue."""
    plan = current_plan(world)
    account = world.store.account(account_id)
    items: list[QueueItemView] = []
    for run in world.store.waiting_page(account_id, limit):
        where = _where(world, run, plan)
        items.append(
            QueueItemView(
                where.position,
                run.id,
                run.name,
                run.account_id,
                run.priority,
                where.readiness or "",
                where.sentence or "",
            )
        )
    return QueueView(
        paused=world.store.queue_paused(),
        account_paused=account.paused if account is not None else False,
        waiting=world.store.counts(account_id).get(StateName.waiting, 0),
        items=tuple(items),
    )


def usage(world: World, account_id: str, by: str, since_ms: int | None, until_ms: int | None) -> UsageView:
    """The bill of an account, grouped. What still runs is not in it: it is billed when its slot is released."""
    if by not in ("account", "user", "day", "tag"):
        raise Refused(f"Usage can be shown by account, user, day or tag, not by {by!r}.")
    rows = world.store.usage(account_id, by, since_ms, until_ms)
    total = rows if by != "tag" else world.store.usage(account_id, "account", since_ms, until_ms)
    return UsageView(by, tuple(_usage_item(row) for row in rows), _usage_item(_sum(total)))


def _sum(rows: Sequence[UsageRow]) -> UsageRow:
    return UsageRow(
        group="total",
        runs=sum(row.runs for row in rows),
        attempts=sum(row.attempts for row in rows),
        gpu_ms=sum(row.gpu_ms for row in rows),
        cpu_ms=sum(row.cpu_ms for row in rows),
        gb_ms=sum(row.gb_ms for row in rows),
        cost=sum(row.cost for row in rows),
        waste_gpu_ms=sum(row.waste_gpu_ms for row in rows),
    )


def _usage_item(row: UsageRow) -> UsageItemView:
    return UsageItemView(
        row.group,
        row.runs,
        row.attempts,
        seconds(row.gpu_ms),
        seconds(row.cpu_ms),
        seconds(row.gb_ms),
        money(row.cost),
        seconds(row.waste_gpu_ms),
    )
