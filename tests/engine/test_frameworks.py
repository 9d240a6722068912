"""Environments of submissions: what is asked of whom, what is kept with the spec, what the account registers."""

from dataclasses import dataclass, field, replace

import pytest

from runyard.core.errors import NotFound, Refused, RunyardError
from runyard.core.reasons import Reason
from runyard.core.spec import OWN_ENVIRONMENT, EnvironmentRequest
from runyard.engine import frameworks, queries, stage
from runyard.ports.environments import FrameworkRecord, SpecFacts
from runyard.ports.executor import StageRequest
from runyard.ports.logs import LogKey
from tests.engine.yard import ACME, OTHER, Yard, manifest


@dataclass
class Index:
    """A package index in memory."""

    there: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    asked: list[str] = field(default_factory=list[str])

    def versions(self, distribution: str) -> tuple[str, ...] | None:
        """See :class:`runyard.ports.catalog.Catalog`."""
        self.asked.append(distribution)
        return self.there.get(distribution)


@pytest.fixture
def index() -> Index:
    return Index({"torch": ("2.15.0", "2.13.0"), "tensorflow-cpu": ("2.21.0", "2.12.0")})


@pytest.fixture
def shop(index: Index) -> Yard:
    """The engine with an index, and a machine that has torch 2.13."""
    made = Yard()
    made.world = replace(made.world, catalog=index)
    made.join(python="3.11.7", packages={"torch": "2.13.0+cpu"})
    return made


def asking(framework: str, extra: str = "") -> str:
    return manifest(extra=extra).replace("  execution:", f"  framework: {framework}\n  execution:")


def environment(yard: Yard, run_id: str) -> EnvironmentRequest:
    return yard.world.specs.get(yard.run(run_id).spec_id).environment


def test_it_is_decided_at_submission_and_given_with_the_order_to_stage(shop: Yard, index: Index) -> None:
    (own,), (pinned,), (python,) = (
        shop.submit(manifest()),
        shop.submit(asking("{name: pytorch, version: '2.15'}")),
        shop.submit(manifest(extra="runyard: {python: /opt/env}\n")),
    )
    assert environment(shop, own) == OWN_ENVIRONMENT
    assert environment(shop, pinned) == EnvironmentRequest(packages=("torch==2.15.0",))
    assert environment(shop, python) == EnvironmentRequest(python="/opt/env")
    assert index.asked == ["torch"]
    stage.stage(shop.world, shop.run(pinned).spec_id)
    assert shop.fakes.executor.of(StageRequest)[-1].environment.packages == ("torch==2.15.0",)


def test_the_refusal_comes_before_the_stores_are_asked(shop: Yard) -> None:
    text = asking("{name: tensorflow, version: '1.5'}").replace("bucket: results", "bucket: nowhere")
    shop.fakes.objects.fails = AssertionError("nobody asks a store")
    with pytest.raises(Refused, match=r"submit again with --framework tensorflow:2\.21"):
        shop.submit(text)


def test_what_an_account_registers_is_its_own(shop: Yard) -> None:
    frameworks.register(shop.world, FrameworkRecord("acme", "tensorflow", "1.5", 0, instead="tensorflow:2.21"))
    (run,) = shop.submit(asking("{name: tensorflow, version: 1.5.0-py3}"))
    assert environment(shop, run).packages == ("tensorflow-cpu==2.21.0",)
    assert "framework tensorflow 1.5.0-py3 is taken as framework tensorflow 2.21, as registered." in shop.run(run).notes
    with pytest.raises(Refused, match="cannot be had"):
        shop.submit(asking("{name: tensorflow, version: 1.5.0-py3}"), who=OTHER)
    with pytest.raises(NotFound):
        frameworks.forget(shop.world, OTHER.account_id, "tensorflow", "1.5")
    frameworks.forget(shop.world, ACME.account_id, "tensorflow", "1.5")
    assert not frameworks.registered(shop.world, "acme")


@pytest.mark.parametrize(
    "record",
    [
        FrameworkRecord("acme", "", "", 0, python="/opt"),
        FrameworkRecord("acme", "a b", "", 0, python="/opt"),
        FrameworkRecord("acme", "a", "1 2", 0, python="/opt"),
        FrameworkRecord("acme", "custom", "", 0, python="/opt"),
        FrameworkRecord("acme", "a", "", 0),
        FrameworkRecord("acme", "a", "", 0, python="/opt", instead="b"),
        FrameworkRecord("acme", "a", "", 0, instead=":1"),
    ],
)
def test_what_cannot_be_registered(shop: Yard, record: FrameworkRecord) -> None:
    with pytest.raises(RunyardError) as refusal:
        frameworks.register(shop.world, record)
    assert refusal.value.code == "invalid_request"
    assert not frameworks.registered(shop.world, "acme")


def test_what_is_known_and_where_it_is_at_hand(shop: Yard) -> None:
    known = {each.name: each for each in frameworks.known(shop.world)}
    assert known["pytorch"].installed == ("2.13.0+cpu",)
    assert known["python"].installed == ("3.11.7",)
    assert known["scikit-learn"].aliases[0] == "sklearn"
    assert frameworks.versions(shop.world, "torch") == ("2.15.0", "2.13.0")
    assert frameworks.versions(shop.world, "jax") is None
    with pytest.raises(NotFound):
        frameworks.versions(shop.world, "python")


def test_what_it_came_to_is_shown(shop: Yard) -> None:
    (run,) = shop.submit(asking("{name: pytorch, version: '2.15'}"))
    asked = {"python": None, "packages": ["torch==2.15.0"]}
    assert queries.show(shop.world, shop.run(run)).environment == {"asked": asked}
    shop.fakes.store.put_spec_facts(
        shop.run(run).spec_id, SpecFacts('{"python": "3.11.7", "packages": {"torch": "2"}}')
    )
    shown = queries.show(shop.world, shop.run(run)).environment
    assert shown == {"asked": asked, "python": "3.11.7", "packages": {"torch": "2"}}


def test_how_far_a_build_is_stands_in_the_readiness(shop: Yard) -> None:
    (run,) = shop.submit(asking("{name: pytorch, version: '2.15'}"))
    spec = shop.run(run).spec_id
    assert shop.world.ready.ask("n1", spec)
    shop.world.ready.report(spec, 5, 5, "installing torch==2.15.0")
    explained = queries.explain(shop.world, shop.run(run))
    assert explained.readiness == "staging"
    assert explained.sentence == "Its environment is being built: installing torch==2.15.0."


def test_a_build_that_fails_is_the_users_and_leaves_its_log(shop: Yard) -> None:
    (run,) = shop.submit(asking("{name: pytorch, version: '2.15'}"))
    spec = shop.run(run).spec_id
    stage.stage(shop.world, spec)
    assert stage.failed(shop.world, "n1", spec, Reason.environment_failed, "pip: no.", "model\ndata\n", "model\n")
    shown = queries.show(shop.world, shop.run(run))
    assert (shown.reason, shown.fault) == ("environment_failed", "user")
    assert (shown.sentence or "").count("pip: no.") == 1
    logs = shop.world.logs
    assert logs.read(LogKey(run, 0, stream="load-model"), 0, 99) == b"model\n"
    assert logs.read(LogKey(run, 0, stream="load-data"), 0, 99) == b"model\ndata\n"
