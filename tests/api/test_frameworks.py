"""Frameworks over the API: known, registered, forgotten."""

import pytest

from tests.api.serving import MANIFEST, Api, Machine


def test_what_is_registered_is_listed_and_forgotten_by_name_and_version(api: Api) -> None:
    for body in (
        {"name": "vision", "python": "/opt/vision"},
        {"name": "vision", "version": "2", "python": "/opt/vision2"},
        {"name": "tensorflow", "version": "1.5", "instead": "tensorflow:2"},
        {"name": "vision", "python": "/opt/vision-new"},
    ):
        answer = api.call("POST", "/frameworks", body)
        assert answer.status == 201
        assert answer.json()["created_at"]
    listed = api.get("/frameworks")
    assert [(each["name"], each["version"], each["python"], each["instead"]) for each in listed["registered"]] == [
        ("tensorflow", "1.5", None, "tensorflow:2"),
        ("vision", "", "/opt/vision-new", None),
        ("vision", "2", "/opt/vision2", None),
    ]
    assert {"pytorch", "tensorflow", "keras", "jax", "scikit-learn", "xgboost", "lightgbm", "python"} == {
        each["name"] for each in listed["known"]
    }
    assert api.get("/frameworks", token="other")["registered"] == []
    assert api.call("DELETE", "/frameworks/vision?version=2", token="other").status == 404
    assert api.call("DELETE", "/frameworks/vision?version=2").status == 204
    assert api.call("DELETE", "/frameworks/vision?version=2").code == "not_found"
    for path in ("/frameworks/vision", "/frameworks/tensorflow?version=1.5"):
        assert api.call("DELETE", path).status == 204
    assert api.get("/frameworks")["registered"] == []


@pytest.mark.parametrize(
    "body",
    [{}, {"name": "x"}, {"name": "x", "python": "/a", "instead": "b"}, {"name": "x y", "python": "/a"},
     {"name": "x", "python": ""}, {"name": "x", "python": "/a", "more": 1}, {"name": "x" * 65, "python": "/a"}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(api: Api, body: dict[str, object]) -> None:
    assert api.call("POST", "/frameworks", body).code == "invalid_request"
    assert api.get("/frameworks")["registered"] == []


def test_a_framework_without_versions_to_list(api: Api) -> None:
    assert api.call("GET", "/frameworks/nonesuch/versions").code == "not_found"


def test_a_registered_environment_is_that_of_the_run(api: Api, machine: Machine) -> None:
    assert api.call("POST", "/frameworks", {"name": "mine", "python": "/opt/mine"}).status == 201
    text = MANIFEST.replace("  execution:", "  framework: {name: mine}\n  execution:")
    (run,) = api.call("POST", "/training-runs", {"manifest": text}).json()["ids"]
    shown = api.get(f"/training-runs/{run}")
    assert shown["environment"] == {"asked": {"python": "/opt/mine", "packages": []}}
    assert "framework mine is the environment /opt/mine, as registered." in shown["notes"]
    assert api.call("DELETE", "/frameworks/mine").status == 204
