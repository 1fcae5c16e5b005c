"""The JSON interface answers as its description says."""

from __future__ import annotations

import json

import dramatiq
from dramatiq import group
from dramatiq.dashboard import api
from dramatiq.dashboard.rendering import STATIC
from dramatiq.history import History
from dramatiq.inspection import State
from dramatiq.testing.waiting import wait_until

DESCRIBED = json.loads((STATIC / "openapi.json").read_text())
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def check(value, schema, path="answer"):
    """Fail where a value is not as its schema says, or has more than that."""
    if "$ref" in schema:
        schema = DESCRIBED["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "allOf" in schema:
        merged = {"type": "object", "properties": {}}
        for part in schema["allOf"]:
            name = part.get("$ref", "").rpartition("/")[2]
            full = DESCRIBED["components"]["schemas"][name] if name else part
            merged["properties"] |= full["properties"]
        schema = merged
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert isinstance(value, tuple(t for n in names for t in _types(n))), (path, value, names)
    if "enum" in schema:
        assert value in schema["enum"], path
    if isinstance(value, list):
        for each in value:
            check(each, schema["items"], f"{path}[]")
    properties = schema.get("properties")
    if isinstance(value, dict) and properties is not None:
        assert set(schema.get("required", ())) <= set(value), path
        for name, each in value.items():
            check(each, properties[name], f"{path}.{name}")


def _types(name):
    found = TYPES[name]
    return found if isinstance(found, tuple) else (found,)


def test_everything_is_described_and_nothing_else():
    described = {
        (f"{api.ROOT}{path}", method.upper())
        for path, methods in DESCRIBED["paths"].items()
        for method in methods
    }

    assert {(page.path.replace(":path", ""), page.method) for page in api.PAGES} == described


def test_answers_are_as_they_are_described(each_broker, bury, visit):
    history = History()
    each_broker.add_middleware(history)
    (dead,) = bury(each_broker, "ValueError: broken", args=("x",))
    other = dramatiq.actor(broker=each_broker, actor_name="other", queue_name="mail")(print)
    worker = dramatiq.Worker(each_broker, worker_timeout=100, worker_threads=1)
    worker.start()
    try:
        done = other.send()
        wait_until(lambda: history.flush() and each_broker.history.of_message(done.message_id))
        client = visit(each_broker)
        dramatiq.set_broker(each_broker)
        (group([other.message()]) | other.message()).run()
        [flow], _ = each_broker.inspection.workflows()
        names = {
            "name": "mail",
            "message_id": dead.message_id,
            "workflow_id": flow.workflow_id,
        }
        client.post(f"{api.ROOT}/queues/mail/pause")

        for path, methods in DESCRIBED["paths"].items():
            if "get" in methods:
                query = "?state=dead" if path == "/messages" else ""
                names["name"] = "other" if path == "/actors/{name}" else "mail"
                answer = client.get(api.ROOT + path.format(**names) + query)
                schema = methods["get"]["responses"]["200"]["content"]["application/json"]
                assert answer.status_code == 200, answer.text
                check(answer.json(), schema["schema"], path)
        detail = client.get(f"{api.ROOT}/messages/{done.message_id}").json()
        assert [each["outcome"] for each in detail["attempts"]] == ["done"]
    finally:
        worker.stop()


def test_actions_answer_with_what_they_did(each_broker, bury, visit):
    bury(each_broker, *["ValueError: broken"] * 3, "KeyError: 'x'")
    client = visit(each_broker)
    root = api.ROOT
    until = client.get(f"{root}/failures").json()["until"]

    counted = client.get(f"{root}/failures/count", params={"error": "ValueError", "until": until})
    assert counted.json() == {"count": 3, "is_more": False}
    form = {"until": until, "error": "ValueError", "count": "2"}
    assert client.post(f"{root}/failures/requeue", data=form).json() == {"count": 2}
    assert client.post(f"{root}/failures/delete", data=form).json() == {"count": 1}
    assert client.post(f"{root}/queues/mail/resume").json() == {"is_paused": False}
    purge = {"state": ["ready", "dead"], "count": "3"}
    assert client.post(f"{root}/queues/mail/purge", data=purge).json() == {"count": 3}

    assert each_broker.inspection.messages(State.DEAD).items == []
    log = client.get(f"{root}/audit").json()["entries"]
    assert ["purge 3", "resume None", "delete 1", "requeue 2"] == [
        f"{entry['verb']} {entry['count']}" for entry in log
    ]


def test_it_says_where_it_is_mounted(visit):
    described = visit(root_path="/a/b").get("/api/v1/openapi.json").json()

    assert [{"url": "/a/b/api/v1"}] == described["servers"]


def test_there_are_errors_in_json_too(visit):
    answer = visit().get("/api/v1/nothing")

    assert (answer.status_code, list(answer.json())) == (404, ["error"])
