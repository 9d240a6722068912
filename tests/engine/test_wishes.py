"""What manifests ask of other things: secrets, a run to start from, learners, machines that can do more."""

import pytest

from runyard.core.errors import Refused, StoreUnavailable
from runyard.core.reasons import Reason
from runyard.core.resources import Resources
from runyard.core.run import Starting, Storing
from runyard.engine import control, dispatch, nodes, queries, stage, supervise
from runyard.engine.orders import secret_context
from runyard.ports.executor import LaunchRequest, StageRequest, StoreRequest
from runyard.ports.objects import Checked, Verdict
from runyard.ports.secrets import SecretRecord
from tests.engine.yard import OTHER, SECRET, Yard, manifest


def asking(words: str, **more: str) -> str:
    return manifest(extra=f"runyard: {{{words}}}\n", **more)


def keep(yard: Yard, name: str, value: str = SECRET, account: str = "acme") -> None:
    sealed = yard.fakes.vault.seal(value.encode(), secret_context(account, name))
    yard.fakes.store.put_secret(SecretRecord(account, name, yard.now, sealed))


def launched(yard: Yard) -> LaunchRequest:
    return yard.fakes.executor.of(LaunchRequest)[-1]


# ------------------------------------------------------------------------------------------------------- secrets


def test_secrets_are_opened_for_the_launch_and_stand_nowhere_else(yard: Yard) -> None:
    keep(yard, "HF_TOKEN")
    keep(yard, "OTHER_TOKEN", "not asked for")
    run = yard.starting(asking("secrets: [HF_TOKEN]"))
    assert launched(yard).secret_env == {"HF_TOKEN": SECRET}
    assert SECRET not in repr(queries.show(yard.world, yard.run(run)))
    assert queries.show(yard.world, yard.run(run)).secrets == ("HF_TOKEN",)
    for recorded in yard.fakes.store.events(0, 1000):
        assert SECRET not in repr(recorded)


def test_secrets_that_are_not_stored_are_named_with_the_command(yard: Yard) -> None:
    keep(yard, "THEIRS", account="other")
    keep(yard, "HERE")
    with pytest.raises(Refused) as refusal:
        yard.submit(asking("secrets: [HERE, THEIRS, GONE]"))
    assert refusal.value.message == (
        "There is no secrets THEIRS, GONE: `runyard secrets add THEIRS` and `runyard secrets add GONE`, "
        "then submit again."
    ).replace("is no secrets", "are no secrets")


def test_a_secret_that_is_gone_at_the_launch_ends_the_run_by_the_users_fault(yard: Yard) -> None:
    keep(yard, "HF_TOKEN")
    run = yard.submit(asking("secrets: [HF_TOKEN], max_retries: 5"))[0]
    yard.staged(run)
    yard.fakes.store.delete_secret("acme", "HF_TOKEN")
    dispatch.dispatch(yard.world)
    state = yard.run(run).state
    assert isinstance(state, Storing)
    assert (state.ending.reason, state.ending.detail) == (Reason.secret_missing, "Not stored: HF_TOKEN.")
    assert len(yard.run(run).attempts) == 1
    assert not yard.fakes.executor.of(LaunchRequest)
    (order,) = yard.fakes.executor.of(StoreRequest)  # the machine has no folder of the attempt: the sentence is stored
    assert (order.attempt, order.earlier_attempts) == (0, ())
    assert "Not stored: HF_TOKEN." in order.evidence
    (entry,) = yard.fakes.store.ledger(run)
    assert (entry.cost, entry.waste) == (0, True)


def test_what_an_earlier_attempt_left_is_stored_when_a_later_one_cannot_begin(yard: Yard) -> None:
    keep(yard, "HF_TOKEN")
    run = yard.running(asking("secrets: [HF_TOKEN], max_retries: 5"))
    yard.ends(run, 1)
    yard.fakes.store.delete_secret("acme", "HF_TOKEN")
    dispatch.dispatch(yard.world)
    assert len(yard.run(run).attempts) == 2
    (order,) = yard.fakes.executor.of(StoreRequest)
    assert (order.attempt, order.earlier_attempts, order.evidence) == (1, (), "")


def test_a_program_that_runs_outlives_its_secret(yard: Yard) -> None:
    keep(yard, "HF_TOKEN")
    run = yard.running(asking("secrets: [HF_TOKEN]"))
    yard.fakes.store.delete_secret("acme", "HF_TOKEN")
    world = yard.restart()
    nodes.hello(world, yard.fakes.store.nodes()[0], [(run, 1)], [yard.run(run).spec_id])
    nodes.connected(world, "n1")
    assert yard.run(run).state_name.value == "running"
    assert launched(yard).secret_env == {}


def test_a_start_that_was_never_ordered_ends_when_its_secret_is_gone_at_the_reconnect(yard: Yard) -> None:
    keep(yard, "HF_TOKEN")
    run = yard.starting(asking("secrets: [HF_TOKEN]"))
    yard.fakes.store.delete_secret("acme", "HF_TOKEN")
    world = yard.restart()
    nodes.hello(world, yard.fakes.store.nodes()[0], [], [yard.run(run).spec_id])
    nodes.connected(world, "n1")
    state = yard.run(run).state
    assert isinstance(state, Storing)
    assert state.ending.reason is Reason.secret_missing


def test_a_secret_that_cannot_be_opened_is_the_platforms_fault(yard: Yard) -> None:
    keep(yard, "HF_TOKEN")
    run = yard.submit(asking("secrets: [HF_TOKEN]"))[0]
    yard.staged(run)
    yard.fakes.vault.lose_key()
    dispatch.dispatch(yard.world)
    ending = yard.run(run).attempts[0].ending
    assert ending is not None
    assert ending.reason is Reason.launch_failed


# ---------------------------------------------------------------------------------------------------- start_from


def test_a_run_starts_from_the_checkpoints_of_another(yard: Yard) -> None:
    first = yard.finished(manifest(data=""))
    yard.fakes.objects.put("acme", "results", **{f"{first}/checkpoints/manifest.json": b"{}"})
    second = yard.starting(asking(f"start_from: {first}"))
    origin = launched(yard).start_from
    assert origin is not None
    assert (origin.run_id, origin.results.bucket, origin.credentials) == (first, "results", None)
    assert queries.show(yard.world, yard.run(second)).start_from == first


def test_without_checkpoints_it_is_refused_unless_forced(yard: Yard) -> None:
    first = yard.finished()
    with pytest.raises(StoreUnavailable) as refusal:
        yard.submit(asking(f"start_from: {first}"))
    assert refusal.value.code == "store_not_found"
    assert f"{first} has left none" in refusal.value.message
    assert "--force" in refusal.value.message
    assert yard.submit(asking(f"start_from: {first}"), force=True)
    yard.fakes.objects.says["results"] = Checked(Verdict.denied, "No.")
    assert yard.submit(asking(f"start_from: {first}"), force=True)


def test_a_run_that_is_waited_for_need_have_no_checkpoints_yet(yard: Yard) -> None:
    first = yard.running()
    assert yard.submit(asking(f"start_from: {first}, after: [{first}]"))
    with pytest.raises(StoreUnavailable, match="has left none"):
        yard.submit(asking(f"start_from: {first}"))


def test_a_run_to_start_from_must_be_there(yard: Yard) -> None:
    foreign = yard.submit(who=OTHER)[0]
    for run_id in ("training-a1B2c3D4e", foreign):
        with pytest.raises(Refused, match=f"{run_id} to start from"):
            yard.submit(asking(f"start_from: {run_id}"), force=True)


def test_an_origin_that_was_deleted_meanwhile_ends_the_run(yard: Yard) -> None:
    first = yard.finished()
    second = yard.submit(asking(f"start_from: {first}"), force=True)[0]
    yard.staged(second)
    control.delete(yard.world, "acme", first, with_results=False)
    dispatch.dispatch(yard.world)
    state = yard.run(second).state
    assert isinstance(state, Storing)
    assert (state.ending.reason, state.ending.detail) == (
        Reason.start_from_missing,
        f"The record of {first} was deleted.",
    )


# ------------------------------------------------------------------------------------------------------ learners


def distributed(learners: int, extra: str = "", gpus: int = 1) -> str:
    return (
        f"name: ddp\ngpus: {gpus}\ncpus: 2\nmemory: 1Gb\nlearners: {learners}\n"
        "data_stores:\n- id: s\n  type: mount_volume\n  training_results: {container: results}\n"
        "  connection: {path: /srv}\n"
        f"framework: {{name: python, command: python3 train.py}}\n{extra}"
    )


def test_all_learners_start_together_and_are_one_attempt_and_one_bill(yard: Yard) -> None:
    run = yard.starting(distributed(2))
    assert yard.run(run).resources == Resources(2, 4000, 2 * 954)  # 1 Gb is 954 MiB
    request = launched(yard)
    assert (request.learners, request.gpus, request.slots) == (2, 1, (0, 1))
    assert (request.cpu_millis, request.memory_mib) == (2000, 954)
    yard.fakes.clock.pass_by(1000)
    supervise.began(yard.world, "n1", run, 1, yard.now)
    yard.fakes.clock.pass_by(1000)
    yard.ends(run)
    (entry,) = yard.fakes.store.ledger(run)
    assert entry.gpu_ms == 2 * 2000


def test_a_gang_waits_for_all_its_slots(yard: Yard) -> None:
    first = yard.running()
    run = yard.submit(distributed(2))[0]
    yard.staged(run)
    assert dispatch.dispatch(yard.world).starts == ()
    assert "2 GPU slots (1 free)" in (queries.show(yard.world, yard.run(run)).sentence or "")
    yard.ends(first)
    dispatch.dispatch(yard.world)
    assert isinstance(yard.run(run).state, Starting)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (distributed(3), "asks for 3 GPUs (3 learners with 1 each) and the largest machine has 2"),
        (distributed(2, "runyard: {network: off}\n"), "find each other through the network"),
    ],
)
def test_learners_that_cannot_be(yard: Yard, text: str, words: str) -> None:
    yard.join(features=("network_off",))
    with pytest.raises(Refused) as refusal:
        yard.submit(text)
    assert words in refusal.value.message


def test_one_process_a_gpu_is_handed_on(yard: Yard) -> None:
    yard.starting(distributed(2, "runyard: {launch: gpu}\n"))
    assert launched(yard).launch == "gpu"


# ------------------------------------------------------------------------------------------------------ features


def test_a_machine_that_can_is_needed_and_chosen(yard: Yard) -> None:
    both = asking("shm: 2Gb, network: off")
    with pytest.raises(Refused, match=r"a /dev/shm of its own .* and a program without network"):
        yard.submit(both)
    yard.join("n0", features=("shm",))
    with pytest.raises(Refused, match=r"No machine can give a program without network"):
        yard.submit(both)
    yard.join("n2", features=("shm", "network_off"))
    run = yard.submit(both)[0]
    stage.stage(yard.world, yard.run(run).spec_id)
    assert yard.fakes.executor.of(StageRequest)[-1].node_id == "n2"
    plain = yard.submit()[0]
    assert stage.node_for(yard.world, yard.run(plain).spec_id) == "n0"
    stage.staged(yard.world, "n2", yard.run(run).spec_id)
    dispatch.dispatch(yard.world)
    assert (launched(yard).shm_mib, launched(yard).network) == (1908, False)
