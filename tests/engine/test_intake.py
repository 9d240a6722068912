"""From text to accepted runs: all or none, with a sentence and a code for every refusal."""

from dataclasses import asdict
from threading import Barrier, Thread

import pytest

from runyard.core.errors import Conflict, ManifestError, NotFound, Refused, RunyardError, StoreUnavailable
from runyard.core.resources import Resources
from runyard.core.spec import Connection, StoreKind
from runyard.engine import intake
from runyard.engine.world import Rules
from runyard.ports.objects import Checked, Verdict
from runyard.ports.store import ConnectionRecord, Definition, RunQuery
from tests.engine.yard import ACME, OTHER, SECRET, Yard, manifest

OPTIONS = "runyard: {{{}}}\n"
CODE = "a" * 64


def stored_runs(yard: Yard) -> int:
    return len(yard.fakes.store.runs(RunQuery(None)))


@pytest.mark.parametrize(
    ("text", "kind", "code", "words"),
    [
        (": [", ManifestError, "invalid_manifest", "line 1"),
        (manifest(size="gigantic"), ManifestError, "invalid_manifest", "gigantic"),
        (manifest(size="k80x4"), Refused, "refused", "asks for 4 GPUs and the largest machine has 2"),
        (manifest(data="absent"), StoreUnavailable, "store_not_found", "There is no bucket absent"),
    ],
)
def test_refusals(yard: Yard, text: str, kind: type[RunyardError], code: str, words: str) -> None:
    with pytest.raises(kind) as refusal:
        yard.submit(text)
    assert refusal.value.code == code
    assert words in refusal.value.message
    assert stored_runs(yard) == 0


def test_without_a_machine_nothing_is_accepted() -> None:
    with pytest.raises(Refused, match="No machine has joined yet"):
        Yard().submit()


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.not_found, "store_not_found"),
        (Verdict.denied, "store_denied"),
        (Verdict.unreachable, "store_unreachable"),
    ],
)
def test_a_store_that_says_no_refuses_unless_forced(yard: Yard, verdict: Verdict, code: str) -> None:
    yard.fakes.objects.says["results"] = Checked(verdict, "It said no.")
    with pytest.raises(StoreUnavailable, match="training results: It said no") as refusal:
        yard.submit()
    assert refusal.value.code == code
    assert stored_runs(yard) == 0
    assert len(yard.submit(force=True)) == 1


def test_all_troubles_of_stores_are_told_at_once(yard: Yard) -> None:
    yard.fakes.objects.says["results"] = Checked(Verdict.denied, "No writing.")
    with pytest.raises(StoreUnavailable) as refusal:
        yard.submit(manifest(data="absent"))
    assert "There is no bucket absent" in refusal.value.message
    assert "No writing." in refusal.value.message


def test_secrets_are_sealed_and_nowhere_else(yard: Yard) -> None:
    yard.fakes.objects.put("acme", "data", digits=b"1")
    run_id = yard.submit(manifest(data="data", kind="s3"))[0]
    stored = yard.fakes.store.spec(yard.run(run_id).spec_id)
    assert stored is not None
    assert SECRET not in repr(asdict(stored))
    assert stored.spec.data[0].connection.secret is not None
    checked = dict(yard.fakes.objects.seen)
    assert checked["data"] is not None
    assert checked["data"].secret_access_key == SECRET
    assert checked["results"] is None


def test_a_named_connection_is_resolved_and_its_secret_sealed_again(yard: Yard) -> None:
    sealed = yard.fakes.vault.seal(b'["AKIA", "%s", null]' % SECRET.encode(), "connection/acme/archive")
    record = ConnectionRecord("acme", "archive", StoreKind.s3, Connection("http://127.0.0.1:9"), yard.now, sealed)
    yard.fakes.store.put_connection(record)
    yard.fakes.objects.put("acme", "data", digits=b"1")
    named = "training_data_reference:\n  type: s3\n  connection: {name: archive}\n  source: {bucket: data}\n"
    run_id = yard.submit(manifest(extra=named))[0]
    stored = yard.fakes.store.spec(yard.run(run_id).spec_id)
    assert stored is not None
    assert stored.spec.data[0].connection == Connection("http://127.0.0.1:9", secret="connection/archive")
    assert SECRET not in repr(asdict(stored))
    with pytest.raises(NotFound, match="There is no connection 'archive'"):
        yard.submit(manifest(extra=named), who=OTHER)


def test_a_named_connection_of_another_type_is_refused(yard: Yard) -> None:
    record = ConnectionRecord("acme", "disk", StoreKind.volume, Connection(path="/data"), yard.now)
    yard.fakes.store.put_connection(record)
    named = "training_data_reference:\n  type: s3\n  connection: {name: disk}\n  source: {bucket: data}\n"
    with pytest.raises(Refused, match="'disk' is of type volume"):
        yard.submit(manifest(extra=named))


def sweep(
    yard: Yard, mentions: bool | None, text: str | None = None, *, append_args: bool = False, force: bool = False
) -> tuple[str, ...]:
    code = CODE if mentions is False else "b" * 64
    yard.fakes.store.add_definition(Definition("acme", code, 10, yard.now, mentions))
    values = ({"lr": 0.1}, {"lr": 0.2})
    return yard.submit(text, parameters=values, definition=code, append_args=append_args, force=force)


def test_a_sweep_of_identical_runs_is_refused_unless_forced(yard: Yard) -> None:
    with pytest.raises(Refused, match="These 2 runs would be identical"):
        sweep(yard, mentions=False)
    assert len(sweep(yard, mentions=False, force=True)) == 2


def test_a_sweep_that_hands_its_parameters_over_is_accepted(yard: Yard) -> None:
    assert len(sweep(yard, mentions=False, append_args=True)) == 2
    assert len(sweep(yard, mentions=True)) == 2
    assert len(sweep(yard, mentions=False, text=manifest(command="python3 t.py --lr {lr}"))) == 2


def test_parameters_are_laid_over_those_of_the_manifest(yard: Yard) -> None:
    text = manifest(extra=OPTIONS.format("hyper_parameters: {lr: 1, width: 2}"))
    first, second = yard.submit(text, parameters=({"lr": 5}, {}))
    assert yard.run(first).parameters == '{"lr": 5, "width": 2}'
    assert yard.run(second).parameters == '{"lr": 1, "width": 2}'


def test_a_definition_of_another_account_is_not_there(yard: Yard) -> None:
    yard.fakes.store.add_definition(Definition("other", CODE, 10, yard.now, True))
    with pytest.raises(NotFound, match="upload it first"):
        yard.submit(definition=CODE)


def test_more_runs_than_one_submission_may_have() -> None:
    yard = Yard(rules=Rules(most_runs=2))
    yard.join()
    with pytest.raises(Refused, match="3 runs are more than the 2 of one submission"):
        yard.submit(parameters=({"lr": 1}, {"lr": 2}, {"lr": 3}), append_args=True)


def test_what_is_short_is_scaled_and_said(yard: Yard) -> None:
    run = yard.run(yard.submit()[0])
    assert run.resources == Resources(1, 4000, 12 * 1024)
    assert any("CPUs scaled from 6 to 4" in note for note in run.notes)


def test_a_request_sent_twice_makes_one_submission(yard: Yard) -> None:
    request = intake.Request(manifest(), idempotency_key="k", digest="d")
    first = intake.submit(yard.world, ACME, request)
    again = intake.submit(yard.world, ACME, request)
    assert (first.ids, first.replayed, again.replayed) == (again.ids, False, True)
    assert stored_runs(yard) == 1


def test_a_replay_asks_no_store(yard: Yard) -> None:
    first = yard.submit(idempotency_key="k", digest="d")
    yard.fakes.objects.fails = TimeoutError("nobody answers")
    assert yard.submit(idempotency_key="k", digest="d") == first


def test_a_key_used_for_another_request(yard: Yard) -> None:
    yard.submit(idempotency_key="k", digest="d")
    with pytest.raises(Conflict) as refusal:
        yard.submit(idempotency_key="k", digest="e")
    assert refusal.value.code == "idempotency_conflict"
    assert len(yard.submit(idempotency_key="k", digest="e", who=OTHER)) == 1, "keys belong to accounts"


def test_the_same_request_at_the_same_moment(yard: Yard) -> None:
    together, answers = Barrier(6), list[tuple[str, ...]]()

    def send() -> None:
        together.wait()
        answers.append(yard.submit(idempotency_key="k", digest="d"))

    threads = [Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert len(set(answers)) == 1
    assert stored_runs(yard) == 1


def test_examining_accepts_nothing(yard: Yard) -> None:
    found = intake.examine(yard.world, ACME, intake.Request(manifest(data="absent"), parameters=({}, {})))
    assert [(check.what, check.checked.verdict) for check in found.checks] == [
        ("training data absent", Verdict.not_found),
        ("training results", Verdict.ok),
    ]
    assert len(found.parameters) == 2
    assert stored_runs(yard) == 0
