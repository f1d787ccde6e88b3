"""Each failure of the API is the class that says what to do, with the facts as attributes."""

from __future__ import annotations

import json
import pickle

import pytest

from airflow_provider_cfqueues import exceptions as errors


def failure(code, message, **more):
    return {"success": False, "errors": [{"code": code, "message": message, **more}], "messages": [], "result": None}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, failure(6003, "Invalid request headers"), errors.AuthenticationError),
        (401, failure(10000, "Authentication error"), errors.AuthenticationError),
        (403, failure(10000, "Authentication error"), errors.PermissionDeniedError),
        (403, "<html>blocked</html>", errors.PermissionDeniedError),
        (404, failure(0, "Queue does not exist"), errors.NotFoundError),
        (400, failure(7003, "Could not route"), errors.NotFoundError),
        (400, failure(11000, "queue not found"), errors.NotFoundError),
        (405, failure(0, "messages cannot be pulled unless http_pull mode is enabled"), errors.PullNotEnabledError),
        (409, failure(0, "queue_delivery_paused"), errors.QueuePausedError),
        (429, failure(10251, "StorageLimitExceeded"), errors.OverQuotaError),
        (429, failure(10252, "QueueDisabled"), errors.QueueDisabledError),
        (429, failure(10253, "FreeTierLimitExceeded"), errors.OverQuotaError),
        (400, failure(10207, "Expected object"), errors.InvalidRequestError),
        (418, failure(1, "teapot"), errors.InvalidRequestError),
        (200, failure(15000, "Unknown"), errors.RefusedError),
        (200, "<html>log in</html>", errors.MalformedResponseError),
        (200, '{"success": true, "result": {"mess', errors.MalformedResponseError),
        (200, "[]", errors.MalformedResponseError),
        (200, '"text"', errors.MalformedResponseError),
        (200, {"success": True, "result": [1, 2]}, errors.MalformedResponseError),
        (200, {"success": True, "result": {"messages": 7}}, errors.MalformedResponseError),
        (302, "", errors.MalformedResponseError),
    ],
)
def test_a_failure_that_will_not_pass_is_raised_at_once(hook, cf, queue, status, body, kind):
    cf.add_fault(path="pull", status=status, body=body, headers={"cf-ray": "8f-CDG"})
    with pytest.raises(errors.CloudflareQueuesError) as caught:
        hook.pull(queue, max_messages=1)
    error = caught.value
    assert type(error) is kind
    assert error.status == status
    assert error.ray_id == "8f-CDG"
    assert error.conn_id == "cloudflare_default"
    assert error.queue == queue
    for fact in ("'cloudflare_default'", repr(queue), f"HTTP {status}", "8f-CDG", error.remedy):
        assert fact in str(error)
    assert len([request for request in cf.requests() if request["path"].endswith("/pull")]) == 1


def test_an_error_has_the_name_of_a_queue_that_was_looked_up_in_the_command_that_mends_it_too(hook, cf):
    made = hook.create_queue("bare")
    with pytest.raises(errors.PullNotEnabledError) as caught:
        hook.pull(hook.get_queue_id("bare"), max_messages=1)
    assert f"queue 'bare' (ID {made.queue_id})" in str(caught.value)
    assert "`npx wrangler queues consumer http add bare`" in str(caught.value)
    again = errors.CloudflareQueuesError.from_dict(json.loads(json.dumps(caught.value.to_dict())))
    assert str(again) == str(caught.value)


def test_the_facts_of_the_api_are_attributes(hook, cf, queue):
    body = failure(
        10207,
        "Expected object, received string",
        source={"pointer": "/messages/0/body"},
        documentation_url="https://developers.example.com/10207",
    )
    cf.add_fault(path="pull", status=400, body=body)
    with pytest.raises(errors.InvalidRequestError, match="/messages/0/body") as caught:
        hook.pull(queue, max_messages=1)
    assert caught.value.codes == (10207,)
    assert caught.value.messages == ("Expected object, received string",)
    assert caught.value.pointers == ("/messages/0/body",)
    assert caught.value.documentation_urls == ("https://developers.example.com/10207",)


def test_permission_errors_name_the_groups_that_would_do(hook, cf, queue):
    cf.add_fault(path="pull", status=403, body=failure(10000, "no"))
    with pytest.raises(errors.PermissionDeniedError, match="'Queues Write' or 'Workers Scripts Write'"):
        hook.pull(queue, max_messages=1)


@pytest.mark.parametrize("malformed", [{"errors": 5}, {"errors": [5, {"code": "x", "source": 7}]}, {"errors": None}])
def test_a_failure_of_an_odd_shape_is_still_told_by_its_status(hook, cf, queue, malformed):
    cf.add_fault(path="pull", status=404, body={"success": False, **malformed})
    with pytest.raises(errors.NotFoundError):
        hook.pull(queue, max_messages=1)


def test_a_queue_without_pull_consumer_and_an_unknown_queue_are_told_apart_by_the_emulator_too(hook):
    with pytest.raises(errors.NotFoundError):
        hook.pull("0" * 32, max_messages=1)


def test_wrong_credentials_are_an_authentication_error(hook, cf, connect):

    connect(cf, password="wrong-token")
    with pytest.raises((errors.AuthenticationError, errors.PermissionDeniedError)) as caught:
        hook.list_queues()
    assert "wrong-token" not in str(caught.value)


def test_credentials_never_follow_a_redirect(hook, cf, queue):
    cf.add_fault(path="pull", status=307, headers={"Location": f"{cf.base_url}/elsewhere"}, body="")
    with pytest.raises(errors.MalformedResponseError):
        hook.pull(queue, max_messages=1)
    assert not [request for request in cf.requests() if request["path"].endswith("/elsewhere")]


def test_errors_survive_pickling(hook, cf, queue):
    cf.add_fault(path="ack", status=404, body=failure(0, "Queue does not exist"))
    with pytest.raises(errors.NotFoundError) as caught:
        hook.ack(queue, acks=["a1"])
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.progress == caught.value.progress


@pytest.mark.parametrize("location", ["http://[", "mailto:x", "//\xe9", ""])
def test_a_redirect_is_not_even_looked_at(hook, cf, queue, location):
    cf.add_fault(path="pull", status=302, headers={"Location": location}, body="")
    with pytest.raises(errors.MalformedResponseError):
        hook.pull(queue, max_messages=1)


def test_a_retry_after_that_makes_no_sense_is_left_out(hook, cf, queue):
    headers = {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"}
    cf.add_fault(path="pull", status=400, headers=headers, body={"success": False, "errors": []})
    with pytest.raises(errors.InvalidRequestError) as caught:
        hook.pull(queue, max_messages=1)
    assert caught.value.retry_after is None


def test_an_answer_that_echoes_the_token_does_not_reach_the_error(hook, cf, queue):
    cf.add_fault(path="pull", status=400, body=f"<pre>Authorization: Bearer {cf.api_token}</pre>")
    cf.add_fault(path="metrics", status=400, body=failure(1, f"bad header Bearer {cf.api_token}"))
    for call in (lambda: hook.pull(queue, max_messages=1), lambda: hook.get_metrics(queue)):
        with pytest.raises(errors.InvalidRequestError, match=r"Bearer \*\*\*") as caught:
            call()
        assert cf.api_token not in f"{caught.value!r}{vars(caught.value)}"


def test_no_fact_of_an_error_shows_the_token_nor_what_a_cut_leaves_of_it(hook, cf, queue):
    token = cf.api_token
    echo = failure(
        1, f"bad {token}", source={"pointer": f"/headers/{token}"}, documentation_url=f"https://x/?t={token}"
    )
    cf.add_fault(path="pull", status=400, body=echo, headers={"cf-ray": token})
    cf.add_fault(path="metrics", status=400, body=f"<p>{'x' * (200 - len(token))}{token}</p>")
    for call in (lambda: hook.pull(queue, max_messages=1), lambda: hook.get_metrics(queue)):
        with pytest.raises(errors.InvalidRequestError) as caught:
            call()
        shown = f"{caught.value}{caught.value!r}{vars(caught.value)}{caught.value.to_dict()}"
        assert token[:5] not in shown


def test_the_error_of_the_http_library_holds_no_credentials(hook, cf, queue):
    cf.add_fault(path="batch", drop="after")
    with pytest.raises(errors.TransportError) as caught:
        hook.send(queue, ["x"])
    assert getattr(caught.value.__cause__, "_request", None) is None
    assert vars(caught.value.__cause__).get("request") is None


@pytest.mark.parametrize("name", [None, 5, "", " ", ["orders"], "a\nb"])
def test_a_queue_name_that_is_none_is_a_value_error(hook, name):
    with pytest.raises(ValueError, match="queue_name"):
        hook.get_queue_id(name)
