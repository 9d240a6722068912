"""Submitting, looking, cancelling, deleting: the answers, right and wrong."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runyard.api.streams import PAGE
from tests.api.serving import MANIFEST, Answer, Api, Machine, sse
from tests.support.waiting import wait_until

RUN_FIELDS = {
    "id", "name", "account", "member", "state", "readiness", "reason", "sentence", "fault", "position", "estimate",
    "attempts", "created_at", "staged_at", "started_at", "finished_at", "stored_at", "exit_code", "gpu_seconds",
    "cpu_seconds", "gb_seconds", "cost", "results", "hyper_parameters", "command", "framework", "resources", "learners",
    "priority", "tags", "notes", "definition", "description", "staging", "provenance", "max_runtime_seconds", "data",
    "after", "start_from", "secrets", "launch",
    "environment", "inputs", "metrics",
}  # fmt: skip


def submit(api: Api, token: str = "owner", key: str | None = None, **body: object) -> Answer:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return api.call("POST", "/training-runs", {"manifest": MANIFEST} | body, token=token, headers=headers)


def test_submit_show_and_list(api: Api, machine: Machine) -> None:
    answer = submit(api, parameters=[{"lr": 0.1}, {"lr": 0.2}], overrides={"tags": ["baseline"], "name": "mine"})
    assert answer.status == 201
    told = answer.json()
    assert set(told) == {"ids", "replayed", "notes"}
    assert not told["replayed"]
    shown = api.get(f"/training-runs/{told['ids'][0]}")
    assert set(shown) == RUN_FIELDS
    assert (shown["name"], shown["hyper_parameters"], shown["tags"]) == ("mine", {"lr": 0.1}, ["baseline"])
    assert shown["created_at"].endswith("Z")
    listed = api.get("/training-runs?tag=baseline")["items"]
    assert [each["id"] for each in listed] == list(reversed(told["ids"]))
    assert api.get(f"/training-runs/{told['ids'][0][9:]}")["id"] == told["ids"][0]


def test_events_of_many_runs_are_told_once_and_in_order(api: Api) -> None:
    ids = submit(api, parameters=[{"n": number} for number in range(PAGE + 1)]).json()["ids"]
    api.call("POST", f"/training-runs/{ids[-1]}/cancel")
    found: list[tuple[str, int, str]] = []
    with api.open("GET", "/events?after=0", headers={"Accept": "text/event-stream"}) as response:
        for name, data, place in sse(response):
            assert int(place or 0) == data["seq"]
            found.append((name, data["seq"], data["run"]))
            if (name, data["run"]) == ("finished", ids[-1]):
                break
    places = [seq for _, seq, _ in found]
    assert places == sorted(set(places))
    assert [run for name, _, run in found if name == "accepted" and run in set(ids)] == ids


def test_states_can_be_asked_for_together(api: Api, machine: Machine) -> None:
    run = api.submit(overrides={"name": "states"})[0]
    api.call("POST", f"/training-runs/{run}/cancel")
    found = api.get("/training-runs?name=states&state=canceled&state=failed")["items"]
    assert [each["id"] for each in found] == [run]
    assert api.get("/training-runs?name=states&state=running")["items"] == []
    assert api.call("GET", "/training-runs?state=sleeping").code == "invalid_request"


def test_pages(api: Api, machine: Machine) -> None:
    ids = api.submit(parameters=[{}] * 5, overrides={"name": "paged"})
    seen, path = list[str](), "/training-runs?name=paged&limit=2"
    page = api.get(path)
    while True:
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        page = api.get(f"{path}&cursor={page['next']}")
    assert seen == list(reversed(ids))


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=-1", "cursor=%C2%B2", "cursor=" + "9" * 40]
)
def test_pages_that_make_no_sense(api: Api, query: str) -> None:
    answer = api.call("GET", f"/training-runs?{query}")
    assert (answer.status, answer.code) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"manifest": ": ["}, 422, "invalid_manifest"),
        ({"manifest": MANIFEST.replace("small", "gigantic")}, 422, "invalid_manifest"),
        ({"manifest": MANIFEST + "runyard: {after: [training-a1B2c3D4e]}\n"}, 409, "refused"),
        ({"manifest": MANIFEST, "colour": "red"}, 422, "invalid_request"),
        ({"manifest": MANIFEST, "overrides": {"colour": "red"}}, 422, "invalid_request"),
        ({"manifest": MANIFEST, "overrides": {"max_runtime": "soon"}}, 422, "invalid_manifest"),
        ({"manifest": MANIFEST, "overrides": {"priority": 10**30}}, 422, None),
        ({"manifest": MANIFEST, "overrides": {"gpus": -1}}, 422, None),
        ({"manifest": MANIFEST, "overrides": {"gpus": 500}}, 409, "refused"),
        ({"manifest": MANIFEST, "definition": "a" * 64}, 404, "not_found"),
        ({"manifest": MANIFEST, "parameters": [{"lr": [1]}]}, 422, "invalid_request"),
        ({"manifest": 7}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
    ],
)
def test_refusals(api: Api, machine: Machine, body: dict[str, Any], status: int, code: str | None) -> None:
    before = len(api.get("/training-runs?limit=1000")["items"])
    answer = api.call("POST", "/training-runs", body)
    assert answer.status == status, answer.body
    assert answer.code == code or code is None
    assert len(api.get("/training-runs?limit=1000")["items"]) == before


def test_a_bad_manifest_names_lines_and_paths(api: Api) -> None:
    answer = submit(api, manifest=MANIFEST + "runyard: {priorty: 3}\n")
    problems = answer.json()["problems"]
    assert [(each["line"], each["path"]) for each in problems] == [(9, "runyard.priorty")]
    assert "priority" in problems[0]["message"]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b'"x"', b"null", b"1" * 5000])
def test_bodies_that_are_no_request(api: Api, body: bytes) -> None:
    answer = api.call("POST", "/training-runs", body, headers={"Content-Type": "application/json"})
    assert answer.status in (400, 422)
    assert answer.code == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        b'{"manifest": "%s", "parameters": [{"lr": NaN}]}',
        b'{"manifest": "%s", "parameters": [{"lr": Infinity}]}',
        b'{"manifest": "%s", "provenance": {"client": NaN, "word": "\\ud800"}}',
        b'{"manifest": "%s", "parameters": [{"word": "\\ud800"}]}',
        b'{"manifest": "%s", "parameters": [{"\\u0000": "\\u0000"}]}',
    ],
)
def test_values_that_json_has_no_word_for_break_no_later_answer(api: Api, machine: Machine, body: bytes) -> None:
    text = json.dumps(MANIFEST).encode()[1:-1]
    headers = {"Content-Type": "application/json"}
    answer = api.call("POST", "/training-runs", body.replace(b"%s", text), headers=headers)
    assert answer.status in (201, 409, 422), answer.body
    for path in ("/training-runs", "/events", "/queue"):
        shown = api.call("GET", path)
        assert shown.status == 200
        json.loads(shown.body, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_request_sent_twice(api: Api, machine: Machine) -> None:
    first, again = submit(api, key="twice"), submit(api, key="twice")
    assert (first.json()["ids"], again.json()["replayed"]) == (again.json()["ids"], True)
    other = submit(api, key="twice", force=True)
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert submit(api, token="other", key="twice").json()["replayed"] is False
    assert submit(api, key="k" * 201).code == "invalid_request"


def test_the_same_request_at_the_same_moment(api: Api, machine: Machine) -> None:
    together, answers = threading.Barrier(5), list[Answer]()

    def send() -> None:
        together.wait()
        answers.append(submit(api, key="together", parameters=[{}, {}]))

    threads = [threading.Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {tuple(answer.json()["ids"]) for answer in answers} == {tuple(answers[0].json()["ids"])}
    assert sorted(answer.json()["replayed"] for answer in answers) == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("GET", ""), ("POST", "/cancel"), ("DELETE", ""), ("GET", "/logs"), ("GET", "/events"), ("GET", "/explain"),
        ("GET", "/results"), ("GET", "/results/model/a"),
    ],
)  # fmt: skip
def test_nobody_elses_runs_are_there(api: Api, machine: Machine, method: str, rest: str) -> None:
    run = api.submit()[0]
    for name in (run, "training-000000000", "last-99999", "last-%C2%B2", "%00", "..%2F.."):
        answer = api.call(method, f"/training-runs/{name}{rest}", token="other")
        assert (answer.status, answer.code) == (404, "not_found"), name
    assert api.get(f"/training-runs/{run}")["state"] == "waiting"
    assert run not in api.call("GET", "/events", token="other").body.decode()


def test_cancel_and_delete(api: Api, machine: Machine) -> None:
    run = api.submit()[0]
    answer = api.call("DELETE", f"/training-runs/{run}")
    assert (answer.status, answer.code) == (409, "conflict")
    answer = api.call("POST", f"/training-runs/{run}/cancel")
    assert (answer.status, answer.json()["state"]) == (202, "canceled")
    assert api.call("POST", f"/training-runs/{run}/cancel").status == 202
    assert api.call("DELETE", f"/training-runs/{run}").status == 204
    assert api.call("GET", f"/training-runs/{run}").status == 404


def test_the_life_of_a_run_and_its_results(api: Api, machine: Machine) -> None:
    run = machine.started()
    assert api.get(f"/training-runs/{run}")["state"] == "running"
    api.call("PUT", f"/data/results/{run}/model/weights.bin", b"weights")
    api.call("PUT", f"/data/results/{run}_0/model/weights.bin", b"of a trial")
    machine.end(run)
    shown = api.get(f"/training-runs/{run}")
    assert (shown["state"], shown["exit_code"], shown["reason"]) == ("completed", 0, "finished")
    assert len(shown["attempts"]) == 1
    kinds = [each["kind"] for each in api.get(f"/training-runs/{run}/events")["items"]]
    assert kinds == ["accepted", "staged", "assigned", "running", "attempt_ended", "storing", "finished"]
    found = api.get(f"/training-runs/{run}/results")
    assert found["items"] == [{"key": "model/weights.bin", "size": 7}]
    assert found["location"]["bucket"] == "results"
    answer = api.call("GET", f"/training-runs/{run}/results/model/weights.bin")
    assert (answer.body, answer.headers["content-length"]) == (b"weights", "7")
    assert api.call("GET", f"/training-runs/{run}/results/model/nothing").code == "not_found"
    hostile = api.call("GET", f"/training-runs/{run}/results/..%2F..%2Fkey")
    assert hostile.status in (404, 422)
    assert api.get(f"/training-runs/{run}/explain")["steps"]
    assert api.call("DELETE", f"/training-runs/{run}?with_results=true").status == 204
    assert [each["key"] for each in api.get(f"/data/results?prefix={run}")["items"]] == [f"{run}_0/model/weights.bin"]


def test_checking_accepts_nothing(api: Api, machine: Machine) -> None:
    before = len(api.get("/training-runs?limit=1000")["items"])
    answer = api.call("POST", "/manifests/check", {"manifest": MANIFEST, "parameters": [{"lr": 1}, {"lr": 2}]})
    told = answer.json()
    assert set(told) == {"name", "command", "runs", "learners", "resources", "results", "notes", "checks", "preview"}
    assert (told["preview"]["starts"], told["preview"]["cost_most"]) in (("now", None), ("later", None))
    assert (told["runs"], told["resources"]["gpus"]) == (2, 1)
    assert [each["verdict"] for each in told["checks"]] == ["ok"]
    assert len(api.get("/training-runs?limit=1000")["items"]) == before


def test_templates_and_the_schema(api: Api) -> None:
    answer = api.call("GET", "/manifests/template")
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"execution" in answer.body
    assert api.call("GET", "/manifests/template?kind=poems").code == "not_found"
    assert api.get("/manifests/schema")["$defs"]


def test_a_body_that_is_too_large_is_refused_before_it_is_read(api: Api) -> None:
    headers = {"Content-Length": str(33 * 1024 * 1024), "Content-Type": "application/json"}
    with api.open("POST", "/training-runs", headers=headers) as response:
        assert response.status == 413
        assert json.loads(response.read())["code"] == "too_large"


def test_a_body_that_turns_out_too_large(api: Api) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(34):
            yield b" " * 1024 * 1024

    answer: Answer | None = None
    try:
        answer = api.call("POST", "/training-runs", pieces(), headers={"Content-Type": "application/json"})
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server hung up while we were still sending
    assert answer is None or (answer.status, answer.code) == (413, "too_large")
    wait_until(lambda: api.call("GET", "//healthz").status == 200, "the server goes on")


def test_many_runs_in_one_call(api: Api, machine: Machine) -> None:
    manifest = MANIFEST.replace("python train.py", "python train.py {n}")
    parameters = [{"n": n, "word": f'{n} \u00e9\U0001f600"\\', "rate": n / 7, "flag": n % 2 == 0} for n in range(4321)]
    first = submit(api, key="many", manifest=manifest, parameters=parameters)
    ids = first.json()["ids"]
    assert (first.status, len(set(ids)), ids) == (201, 4321, sorted(ids))
    for n in (0, 1999, 2000, 4320):
        shown = api.get(f"/training-runs/{ids[n]}")
        assert (shown["hyper_parameters"], shown["state"]) == (parameters[n], "waiting")
        assert [event["kind"] for event in api.get(f"/training-runs/{ids[n]}/events")["items"]][:1] == ["accepted"]
    newest = [each["id"] for each in api.get("/training-runs?limit=3")["items"]]
    assert newest == ids[:-4:-1]
    again = submit(api, key="many", manifest=manifest, parameters=parameters)
    assert again.json() == {"ids": ids, "replayed": True, "notes": []}


@pytest.mark.parametrize("wrong", [[1], None, {"a": 1}])
def test_one_wrong_value_among_thousands_refuses_them_all_and_is_named(
    api: Api, machine: Machine, wrong: object
) -> None:
    parameters: list[object] = [{"n": n} for n in range(2500)]
    parameters[2345] = {"n": wrong}
    before = sum(api.get("/status")["counts"].values())  # those of the tests before may be starting
    answer = submit(api, parameters=parameters)
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert [each["path"] for each in answer.json()["problems"]] == ["body.parameters.2345"]
    assert sum(api.get("/status")["counts"].values()) == before
