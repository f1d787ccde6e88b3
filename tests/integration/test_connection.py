"""The connection: its test, its secrets, its form."""

from __future__ import annotations

import asyncio
import logging
import os
import time

import pytest

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook
from airflow_provider_cfqueues.operators.queues import QueuePullOperator
from airflow_provider_cfqueues.provider_info import get_provider_info


def denied(cf, path, status=403):
    cf.add_fault(path=path, status=status, body={"success": False, "errors": [{"code": 10000, "message": "no"}]})


def test_a_good_token_is_said_to_work(cf):
    works, message = CloudflareQueuesHook().test_connection()
    assert works
    assert "The API token is active, and it can list the account's queues (1)" in message
    assert "'Queues Write'" in message
    assert "\n" not in message


def test_the_legacy_scheme_works_too(cf, connect):
    extra = {"account_id": cf.account_id, "api_key": cf.api_token}
    connect(cf, password=None, login="me@example.com", extra=extra)
    works, message = CloudflareQueuesHook().test_connection()
    assert works, message
    assert "The e-mail and Global API Key can list the account's queues" in message


def test_a_token_that_is_not_active_is_said_so(cf):
    body = {"success": True, "errors": [], "messages": [], "result": {"id": "x", "status": "expired"}}
    cf.add_fault(path="verify", status=200, body=body)
    works, message = CloudflareQueuesHook().test_connection()
    assert not works
    assert "The API token is expired" in message


def test_a_wrong_token_is_said_so_without_showing_it(cf, connect):
    connect(cf, password="wr0ng-t0ken")
    works, message = CloudflareQueuesHook().test_connection()
    assert not works
    assert "Check the API token" in message
    assert "wr0ng-t0ken" not in message


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_permission_is_named(cf, status):
    denied(cf, "queues", status)
    works, message = CloudflareQueuesHook().test_connection()
    assert not works
    assert "The API token is active, but may not list the account's queues ('Queues Read' is missing)" in message


def test_a_token_of_the_account_is_verified_there(cf):
    denied(cf, "verify", 401)  # what a user's endpoint answers to an account's token
    works, message = CloudflareQueuesHook().test_connection()
    assert works, message
    paths = [request["path"] for request in cf.requests() if request["path"].endswith("/tokens/verify")]
    assert [path.split("/client/v4")[-1] for path in paths] == [
        "/user/tokens/verify",
        f"/accounts/{cf.account_id}/tokens/verify",
    ]


@pytest.mark.parametrize(("prefix", "owner"), [("cfut_", "/user"), ("cfat_", "/accounts/")])
def test_a_token_whose_prefix_tells_its_kind_is_verified_in_one_place(cf, connect, prefix, owner):
    connect(cf, password=f"{prefix}wrong")
    works, message = CloudflareQueuesHook().test_connection()
    assert not works
    assert "Check the API token" in message
    (path,) = [request["path"] for request in cf.requests() if request["path"].endswith("/tokens/verify")]
    assert path.split("/client/v4")[-1].startswith(owner)


def test_a_connection_that_cannot_be_used_is_a_failed_test_not_a_traceback(cf, connect):
    connect(cf, extra={})
    works, message = CloudflareQueuesHook().test_connection()
    assert not works
    assert "'account_id'" in message


@pytest.mark.parametrize("fields", [{"password": "wr0ng-t0ken"}, {"extra": {}}])
def test_a_failed_test_does_not_name_the_copy_that_the_page_makes_of_a_connection(cf, connect, monkeypatch, fields):
    connect(cf, **fields)
    monkeypatch.setenv("AIRFLOW_CONN_BPPADUCL", os.environ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"])
    works, message = CloudflareQueuesHook("BPpadUcl").test_connection()
    assert not works
    assert "BPpadUcl" not in message


def test_whoever_tests_a_connection_does_not_wait_for_repeats(connect, cf):
    connect(cf, host="http://127.0.0.1:1/client/v4")
    started = time.monotonic()
    works, message = CloudflareQueuesHook().test_connection()
    assert not works
    assert "Connection refused" in message
    assert "/client/v4: start the emulator, or correct its port in 'host'" in message
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("scheme", ["token", "key"])
def test_no_secret_reaches_log_repr_error_or_template(hook, cf, connect, caplog, scheme):
    secret = cf.api_token
    if scheme == "key":
        extra = {"account_id": cf.account_id, "api_key": secret}
        connect(cf, password=None, login="me@example.com", extra=extra)
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "httpx", "httpcore", "requests", "airflow_provider_cfqueues"):
        caplog.set_level(logging.DEBUG, logger=name)
    queue = next(iter(cf.queues.values()))
    cf.add_fault(path="metrics", status=401, body={"success": False, "errors": [{"code": 10000, "message": "no"}]})
    shown = []
    for call in (lambda: hook.list_queues(), lambda: hook.get_metrics(queue), lambda: hook.ack("../x", acks=["a"])):
        try:
            shown.append(repr(call()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not show the secret
            shown += [repr(error), str(error), repr(error.__cause__), repr(vars(error))]
    operator = QueuePullOperator(task_id="pull", queue_id=queue)
    shown += [repr(operator), repr([getattr(operator, field) for field in operator.template_fields])]
    shown += [repr(hook.hook), repr(vars(hook.hook)), repr(hook.hook.get_conn().settings)]
    assert secret not in "\n".join([*shown, caplog.text])
    assert caplog.records


def test_calls_that_start_together_read_the_connection_once(cf):
    reads = []

    class Reading(CloudflareQueuesHook):
        @classmethod
        def get_connection(cls, conn_id):
            reads.append(conn_id)
            return super().get_connection(conn_id)

    async def call_twenty_times():
        hook = Reading()
        await asyncio.gather(*(hook.alist_queues() for _ in range(20)))
        await hook.aclose()

    asyncio.run(call_twenty_times())
    assert reads == ["cloudflare_default"]


def test_secrets_are_registered_with_airflows_masker(cf):
    from airflow_provider_cfqueues import _compat

    CloudflareQueuesHook().get_conn()
    redact = __import__(_compat.mask_secret.__module__, fromlist=["redact"]).redact
    assert cf.api_token not in str(redact(f"the token is {cf.api_token}"))


def test_both_ways_to_describe_the_form_come_from_one_table():
    pytest.importorskip("flask_appbuilder", reason="only Airflow 2 has the widgets themselves")
    from flask import Flask
    from flask_babel import Babel
    from wtforms import Form

    app = Flask("form")
    Babel(app)
    table = get_provider_info()["connection-types"][0]
    with app.test_request_context():
        widgets = CloudflareQueuesHook.get_connection_form_widgets()
        form = type("Form", (Form,), widgets)()
        assert {name: str(field.label.text) for name, field in form._fields.items()} == {
            name: field["label"] for name, field in table["conn-fields"].items()
        }
        assert 'type="password"' in str(form._fields["api_key"]())
        assert 'type="password"' not in str(form._fields["account_id"]())


def test_the_hook_methods_return_the_labels_of_the_table():
    table = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
    assert CloudflareQueuesHook.get_ui_field_behaviour() == {
        "hidden_fields": table["hidden-fields"],
        "relabeling": table["relabeling"],
        "placeholders": table["placeholders"],
    }
