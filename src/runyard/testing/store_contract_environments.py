"""The store's contract: registered frameworks, and what is known of staged specs."""

from __future__ import annotations

from dataclasses import replace

from runyard.core.account import Account
from runyard.core.spec import EnvironmentRequest
from runyard.ports.environments import FrameworkRecord, SpecFacts
from runyard.ports.store import Store
from runyard.testing.builders import NOW, a_submission
from runyard.testing.lives import accept

MINE = FrameworkRecord("acme", "pytorch", "1.8", NOW, python="/opt/old")


class EnvironmentContract:
    """Frameworks of an account, and facts of a spec."""

    def test_a_framework_is_registered_replaced_and_forgotten(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        store.put_framework(MINE)
        mapped = FrameworkRecord("acme", "pytorch", "1.8", NOW + 1, instead="pytorch:2")
        assert store.frameworks("acme") == [MINE]
        store.put_framework(mapped)
        assert store.frameworks("acme") == [mapped]
        assert not store.delete_framework("acme", "pytorch", "")
        assert not store.delete_framework("beta", "pytorch", "1.8")
        assert store.delete_framework("acme", "pytorch", "1.8")
        assert not store.delete_framework("acme", "pytorch", "1.8")
        assert store.frameworks("acme") == []

    def test_frameworks_are_listed_by_name_and_version_and_belong_to_one_account(self, store: Store) -> None:
        for account in ("acme", "beta"):
            store.ensure_account(Account(account, account))
        wanted = [
            FrameworkRecord("acme", "mine", "", NOW, python="conda-env"),
            FrameworkRecord("acme", "pytorch", "", NOW, instead="pytorch:2.13"),
            MINE,
        ]
        for record in (wanted[2], wanted[0], wanted[1]):
            store.put_framework(record)
        store.put_framework(FrameworkRecord("beta", "pytorch", "1.8", NOW, python="/elsewhere"))
        assert store.frameworks("acme") == wanted

    def test_facts_of_a_spec_are_added_to_each_other(self, store: Store) -> None:
        assert store.spec_facts(7) == SpecFacts()
        store.put_spec_facts(7, SpecFacts(environment='{"python": "3.11.7"}'))
        store.put_spec_facts(7, SpecFacts(inputs='[{"name": "digits"}]'))
        assert store.spec_facts(7) == SpecFacts('{"python": "3.11.7"}', '[{"name": "digits"}]')
        store.put_spec_facts(7, SpecFacts(environment="{}"))
        assert store.spec_facts(7) == SpecFacts("{}", '[{"name": "digits"}]')
        assert store.spec_facts(8) == SpecFacts()
        (run,) = accept(store, first=800)
        assert store.mark_staged(run.spec_id, "n1", NOW, facts=SpecFacts(inputs="[]")) == 1
        assert store.spec_facts(run.spec_id) == SpecFacts(inputs="[]")
        assert store.mark_staged(run.spec_id, "n1", NOW) == 0
        assert store.spec_facts(run.spec_id) == SpecFacts(inputs="[]")

    def test_a_spec_keeps_what_its_interpreter_must_offer(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        store.ensure_member("mia", "acme", "Mia")
        wanted = EnvironmentRequest(packages=("torch==2.13.0",))
        plain = a_submission()
        (first,), _ = store.submit(plain)
        (second,), _ = store.submit(replace(a_submission(first=2), environment=wanted))
        assert [_environment(store, each) for each in (first, second)] == [EnvironmentRequest(), wanted]


def _environment(store: Store, run_id: str) -> EnvironmentRequest:
    run = store.run(run_id)
    assert run is not None
    spec = store.spec(run.spec_id)
    assert spec is not None
    return spec.environment
