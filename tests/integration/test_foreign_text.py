"""Text from outside cannot forge log lines, steer a terminal, or choose code to run."""

from __future__ import annotations

import stat

import pytest

from airflow_provider_cfqueues.cli.sink import open_sink
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueProcessOperator, QueueRedriveOperator

FORGED = "x\nERROR forged\r\x1b[31mred\u2028\ud800"
ESCAPED = r"x\nERROR forged\r\x1b[31mred\u2028\ud800"


def answer(cf, path, result, status=200, headers=None, **around):
    body = {"success": status == 200, "errors": [], "messages": [], "result": result, **around}
    cf.add_fault(path=path, status=status, body=body, headers=headers or {})


def message(**fields):
    return {"id": "id1", "lease_id": "lease1", "body": "x", "metadata": {"CF-Content-Type": "text"}, **fields}


def raw_in(text):
    return [raw for raw in ("\nERROR", "\x1b[31mred", "\u2028", "\ud800") if raw in text]


def assert_escaped(text):
    assert r"\nERROR forged" in text
    assert not raw_in(text)


@pytest.mark.parametrize("fields", [{"id": FORGED}, {"body": FORGED}])
def test_a_message_cannot_forge_a_line_of_the_log(cf, queue, logged, fields):
    answer(cf, "pull", {"messages": [message(**fields)]})

    def fail(one):
        raise ValueError(f"cannot read {one.id} {one.body}")

    operator = QueueProcessOperator(task_id="process", queue_id=queue, handler=fail, max_messages=1)
    with pytest.raises(CloudflareQueuesError) as caught:
        operator.execute({})
    assert_escaped(logged())
    assert_escaped(str(caught.value))


def test_a_lease_cannot_forge_a_line_of_the_log(hook, cf, queue, logged):
    answer(cf, "ack", {"ackCount": 0, "warnings": {FORGED: "late"}})
    cf.add_fault(path="ack", status=403, body={"success": False, "errors": []})
    with pytest.raises(CloudflareQueuesError) as caught:
        hook.ack(queue, acks=[f"lease{number}" for number in range(120)])
    text = f"{logged()}{caught.value}"
    assert r"Lease x\nERROR" in text
    assert not raw_in(text)


def test_what_the_api_says_cannot_forge_a_line_of_the_log(hook, cf, queue, logged):
    answer(cf, "ack", {"ackCount": 0, "warnings": {FORGED: FORGED}}, messages=[FORGED])
    assert hook.ack(queue, acks=["lease1"]).messages == [ESCAPED]
    answer(cf, "pull", None, 400, {"cf-ray": "r\x1b[31mred"}, errors=[{"code": 1, "message": FORGED}])
    with pytest.raises(CloudflareQueuesError) as caught:
        hook.pull(queue, max_messages=1)
    assert_escaped(logged())
    assert_escaped(str(caught.value))


def test_a_body_that_cannot_be_decoded_is_told_of_in_one_line(hook, cf, queue, logged):
    answer(cf, "pull", {"messages": [message(id=FORGED, metadata={"CF-Content-Type": FORGED})]})
    (pulled,) = hook.pull(queue, max_messages=1)
    assert pulled.id == ESCAPED
    assert_escaped(logged())


@pytest.fixture
def redrive(queue):
    CloudflareQueuesHook().create_queue("target")

    def make(match, /, **params):
        operator = QueueRedriveOperator(
            task_id="redrive", queue_id=queue, target_queue_name="target", idle_timeout=0, match=match
        )
        operator.render_template_fields({"params": params})
        return operator

    return make


@pytest.mark.parametrize("match", ["{{ params.match }}", ["literal:a", "{{ params.match }}"]])
def test_a_template_cannot_choose_a_function_for_a_redrive(cf, redrive, match):
    operator = redrive(match, match="function:os.getcwd")
    with pytest.raises(ValueError, match="a template may not name a function"):
        operator.execute({})
    assert not [request for request in cf.requests() if request["path"].endswith("/pull")]


def test_a_template_may_choose_another_condition_and_a_dag_a_function(redrive):
    assert redrive("{{ params.match }}", match="literal:a").execute({})["moved"] == 0
    assert redrive("function:os.path.exists").execute({})["moved"] == 0


def test_only_its_owner_can_read_what_drain_writes(tmp_path):
    path = tmp_path / "messages.jsonl"
    with open_sink(str(path), None, print):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
