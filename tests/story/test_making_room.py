"""Two accounts on one machine: what one has borrowed it gives back, and goes on from its checkpoint."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest

from runyard.adapters.sql import open_store
from runyard.api.context import token_digest
from runyard.api.tokens import new_token
from runyard.client import Client
from runyard.client.training import Order
from runyard.client.training import submit as submit_order
from runyard.core.account import Account, Scope
from runyard.ports.accounts import TokenRecord
from tests.support.installation import Installation, manifest, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

COUNTING = """
import os, pathlib, time
kept = pathlib.Path(os.environ["CHECKPOINT_DIR"], "step")
done = int(kept.read_text()) if kept.exists() else 0
print("from", done, flush=True)
while not kept.with_name("go").exists():
    done += 1
    part = kept.with_suffix(".part")
    part.write_text(str(done))
    part.rename(kept)
    time.sleep(0.05)
print("done", done, flush=True)
"""
DEAF = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
kept = pathlib.Path(os.environ["CHECKPOINT_DIR"], "was")
if kept.exists():
    sys.exit(0)
kept.write_text("here")
print("deaf", flush=True)
time.sleep(600)
"""
SETTINGS = "price_gpu_hour = 3600.0\npreempt_settle_s = 0.2\n"


def other_account(yard: Installation) -> Client:
    """A client of another account, made where the installation keeps them."""
    token = new_token()
    store = open_store(f"sqlite:///{yard.home / 'server' / 'runyard.db'}")
    store.ensure_account(Account("beta", "beta"))
    store.ensure_member("bea", "beta", "bea")
    store.add_token(TokenRecord("beta-1", token_digest(token), token[:4], Scope.member, "beta", "bea", "story", 0))
    store.close()
    return Client(url=yard.url, token=token)


def submit(client: Client, folder: Path, command: str, name: str) -> str:
    """A run of a folder's program; returns its id."""
    text = manifest(command, name=name, extra="runyard: {grace: 2s}\n")
    return submit_order(client, Order(folder, text)).ids[0]


def let_go(yard: Installation, run: str) -> None:
    """Tell a program that counts to come to its end: in its folder of checkpoints, which it takes along."""
    found: list[Path] = []

    def there() -> bool:
        found[:] = sorted((yard.home / "node" / "runs" / run).rglob("step"))
        return bool(found)

    wait_until(there, f"{run} has counted", 30)
    for each in found:
        each.with_name("go").touch()


def state_of(client: Client, run: str) -> str:
    return client.run(run).state


def test_what_was_borrowed_is_given_back_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    with running_installation(tmp_path, "--fake-gpus", "2", settings=SETTINGS) as yard:
        mine, theirs = yard.client(), other_account(yard)
        code = write_code(yard.folder / "code", {"count.py": COUNTING})
        lenders = [submit(mine, code, "exec python3 count.py", f"borrower-{n}") for n in range(2)]
        for run in lenders:
            wait_until(lambda run=run: b"from 0" in mine.log(run), f"{run} runs", 60)
        theirs_run = submit(theirs, code, "exec python3 count.py", "due")
        wait_until(lambda: state_of(theirs, theirs_run) == "running", "what is due is given back", 60)
        (stopped,) = [run for run in lenders if len(mine.run(run).attempts) == 1 and state_of(mine, run) == "waiting"]
        told = mine.explain(stopped).sentence
        assert "waits again with its checkpoint" in told
        assert theirs_run not in told
        for run in (*lenders, theirs_run):
            let_go(yard, run)
        for client, runs in ((mine, lenders), (theirs, [theirs_run])):
            assert {run.state for run in client.wait(runs, timeout=90)} == {"completed"}
        log = mine.log(stopped).decode()
        begun = int(log.split("from ")[1].split()[0])
        assert begun > 0, "it goes on where it was"
        attempts = mine.run(stopped).attempts
        assert [each.reason for each in attempts] == ["preempted", "finished"]
        check_bill(yard, mine.run(stopped).raw)


def check_bill(yard: Installation, run: Mapping[str, object]) -> None:
    """Both attempts are billed, a GPU each for as long as they held it; a GPU-second costs one."""
    attempts = run["attempts"]
    assert isinstance(attempts, list)
    held = sum(
        (datetime.fromisoformat(each["released_at"]) - datetime.fromisoformat(each["assigned_at"])).total_seconds()
        for each in attempts
    )
    assert run["gpu_seconds"] == pytest.approx(held, abs=0.01)
    assert float(str(run["cost"])) == pytest.approx(held, abs=0.01)
    total = yard.json("usage")["total"]
    assert total["waste_gpu_seconds"] == 0


def test_a_program_that_does_not_listen_is_ended_after_its_grace(tmp_path: Path) -> None:
    with running_installation(tmp_path, "--fake-gpus", "1", settings=SETTINGS) as yard:
        mine, theirs = yard.client(), other_account(yard)
        code = write_code(yard.folder / "code", {"deaf.py": DEAF})
        deaf = submit(mine, code, "exec python3 deaf.py", "deaf")
        wait_until(lambda: b"deaf" in mine.log(deaf), "it runs", 60)
        urgent = submit(theirs, code, "true", "urgent")
        # Half of one slot is due to each: nobody is below what is due, so nobody's room is taken back.
        assert state_of(theirs, urgent) == "waiting"
        yard.json("nodes", "drain", "local", "--preempt")
        wait_until(lambda: state_of(mine, deaf) == "waiting", "it was ended", 30)
        (attempt,) = mine.run(deaf).attempts
        assert (attempt.reason, attempt.signal) == ("preempted", 9)
        yard.json("nodes", "resume", "local")
        assert {run.state for run in mine.wait([deaf], timeout=60)} == {"completed"}
        assert {run.state for run in theirs.wait([urgent], timeout=60)} == {"completed"}
