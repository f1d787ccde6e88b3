"""hook.send over HTTP: text and JSON, cut into requests, checked before anything is sent."""

from __future__ import annotations

import pytest

from airflow_provider_cfqueues.exceptions import ServerError, TransportError


def batches(cf):
    return [request["body"]["messages"] for request in cf.requests() if request["path"].endswith("/messages/batch")]


def test_text_and_json_arrive_as_they_were_sent(hook, queue):
    bodies = ["text", {"n": 1}, [1, 2], "ümläut 🚀", {"ü": "🚀"}, ""]
    assert hook.send(queue, bodies).sent_count == len(bodies)
    pulled = hook.pull(queue, max_messages=10)
    assert sorted(map(str, (message.body for message in pulled))) == sorted(map(str, bodies))


def test_a_message_can_wait(hook, cf, queue):
    hook.send(queue, [{"body": "later", "delay_seconds": 60}, "now"])
    assert [message.body for message in hook.pull(queue, max_messages=10)] == ["now"]
    cf.advance(61)
    assert "later" in [message.body for message in hook.pull(queue, max_messages=10)]


def test_all_messages_of_a_call_can_wait_and_one_with_a_delay_keeps_it(hook, cf, queue):
    hook.send(queue, ["later", {"body": "now", "delay_seconds": 0}], delay_seconds="59.5")
    assert [[message.get("delay_seconds") for message in batch] for batch in batches(cf)] == [[60, 0]]
    assert [message.body for message in hook.pull(queue, max_messages=10)] == ["now"]
    with pytest.raises(ValueError, match="delay_seconds must be from 0 to 86400"):
        hook.send(queue, ["later"], delay_seconds=-1)


def test_no_messages_make_no_request(hook, cf, queue):
    assert hook.send(queue, []).sent_count == 0
    assert cf.requests() == []


def test_batches_are_cut_at_a_hundred_messages(hook, cf, queue):
    result = hook.send(queue, [str(number) for number in range(250)])
    assert result.sent_count == 250
    assert result.backlog.backlog_count == 250
    assert [len(batch) for batch in batches(cf)] == [100, 100, 50]


def test_batches_are_cut_at_256_kb(hook, cf, queue):
    hook.send(queue, ["x" * 100_000] * 5)
    assert [len(batch) for batch in batches(cf)] == [2, 2, 1]


@pytest.mark.parametrize("body", ["x" * 127_901, {"text": "ü" * 64_000}])
def test_a_message_that_is_too_large_is_refused_before_anything_is_sent(hook, cf, queue, body):
    with pytest.raises(ValueError, match=r"messages\[1\].*128000.*Nothing was sent"):
        hook.send(queue, ["fine", body])
    assert cf.requests() == []


def test_the_largest_message_is_accepted(hook, queue):
    assert hook.send(queue, ["x" * 127_900]).sent_count == 1


def test_the_size_is_that_of_utf_8_not_of_escapes(hook, queue):
    assert hook.send(queue, [{"text": "ж" * 60_000}]).sent_count == 1


@pytest.mark.parametrize("body", [{"n": float("nan")}, {"n": object()}, {"n": b"bytes"}])
def test_what_is_no_json_is_refused_before_anything_is_sent(hook, cf, queue, body):
    with pytest.raises(ValueError, match=r"messages\[0\].*JSON"):
        hook.send(queue, [body])
    assert cf.requests() == []


@pytest.mark.parametrize("fault", [{"drop": "after"}, {"status": 502, "body": "<html>"}])
def test_a_send_that_may_have_arrived_is_not_repeated(hook, cf, queue, fault):
    cf.add_fault(path="batch", **fault)
    with pytest.raises((ServerError, TransportError), match="not confirmed") as caught:
        hook.send(queue, [str(number) for number in range(130)])
    assert caught.value.maybe_applied
    assert caught.value.progress.unknown == tuple(range(100))
    assert caught.value.progress.not_done == tuple(range(100, 130))
    assert len(batches(cf)) == 1


def test_a_send_that_may_have_arrived_is_repeated_when_asked_for(hook, cf, queue):
    cf.add_fault(path="batch", drop="after")
    assert hook.send(queue, ["x"], repeat_ambiguous=True).sent_count == 1
    assert len(hook.pull(queue, max_messages=10)) == 2  # the duplicate that was accepted as the price


def test_a_send_that_was_not_accepted_is_repeated(hook, cf, queue):
    cf.add_fault(path="batch", status=429, headers={"Retry-After": "0"}, body={"success": False, "errors": []})
    assert hook.send(queue, ["x"]).sent_count == 1
    assert len(hook.pull(queue, max_messages=10)) == 1
