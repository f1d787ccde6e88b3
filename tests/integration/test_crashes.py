"""Each crash point of docs/delivery-guarantees.md: a process is killed there, and the message is looked for."""

from __future__ import annotations

import pytest

from airflow_provider_cfqueues.exceptions import UnconfirmedLeasesError
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueueAckOperator

PULL = """
from airflow_provider_cfqueues.operators.queues import QueuePullOperator
messages = QueuePullOperator(task_id="pull", queue_id={queue!r}, visibility_timeout=600).execute({{}})
"""
ACK = """
from airflow_provider_cfqueues.operators.queues import QueueAckOperator
QueueAckOperator(task_id="ack", queue_id={queue!r}, lease_ids={leases!r}).execute({{}})
"""
WAIT = "import sys; print('here', file=sys.stderr, flush=True); sys.stdin.read()"


def kill_when_it_is_there(process):
    """Read the process's log up to the line that marks the crash point, then kill it."""
    assert any(line == "here\n" for line in process.stderr)
    process.kill()
    process.wait()


def deliver_again(cf, queue):
    assert list(CloudflareQueuesHook().pull(queue, max_messages=10)) == []
    cf.advance(601)
    return CloudflareQueuesHook().pull(queue, max_messages=10)


@pytest.mark.parametrize("code", ["", "leases = [message['lease_id'] for message in messages]\n"])
def test_a_worker_killed_after_its_pull_loses_nothing(cf, queue, worker, code):
    CloudflareQueuesHook().send(queue, ["precious"])
    kill_when_it_is_there(worker(PULL.format(queue=queue) + code + WAIT))
    (message,) = deliver_again(cf, queue)
    assert (message.body, message.attempts) == ("precious", 2)


def test_a_worker_killed_while_processing_loses_nothing(cf, queue, worker):
    hook = CloudflareQueuesHook()
    hook.send(queue, ["precious"])
    (leased,) = hook.pull(queue, max_messages=1, visibility_timeout=600)
    kill_when_it_is_there(worker(f"lease = {leased.lease_id!r}\n{WAIT}"))
    (message,) = deliver_again(cf, queue)
    assert message.id == leased.id
    assert hook.ack(queue, acks=[message]).ack_count == 1


def test_a_worker_killed_with_its_ack_under_way_hides_nothing(cf, queue, worker, until):
    hook = CloudflareQueuesHook()
    hook.send(queue, ["precious"])
    (leased,) = hook.pull(queue, max_messages=1, visibility_timeout=600)
    cf.add_fault(path="ack", delay_ms=500)
    process = worker(ACK.format(queue=queue, leases=[leased.lease_id]))
    until(lambda: [fault for fault in cf.state()["faults"] if fault["path"] == "ack"] == [])
    process.kill()
    process.wait()
    until(lambda: hook.get_metrics(queue).backlog_count == 0)
    with pytest.raises(UnconfirmedLeasesError, match="did not confirm") as caught:
        QueueAckOperator(task_id="ack", queue_id=queue, lease_ids=[leased.lease_id]).execute({})
    assert caught.value.lease_ids == (leased.lease_id,)


def test_a_pull_whose_answer_was_lost_leaves_its_messages_leased_for_a_while(hook, cf, queue):
    hook.send(queue, ["first", "second"])
    cf.add_fault(path="pull", drop="after")
    (second,) = hook.pull(queue, max_messages=1, visibility_timeout=600)
    assert list(hook.pull(queue, max_messages=10)) == []
    cf.advance(601)
    again = hook.pull(queue, max_messages=10)
    assert sorted(message.body for message in again) == ["first", "second"]
    assert {message.attempts for message in again} == {2}
    assert second.id in {message.id for message in again}
