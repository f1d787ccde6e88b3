"""The conformance suite: against the emulator, its switches, and an API that lies in every way a probe can see."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lying_proxy import Lie, proxy

from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.emulator.assumptions import ASSUMPTIONS
from airflow_provider_cfqueues.emulator.conformance import command, report
from airflow_provider_cfqueues.emulator.conformance.api import Api
from airflow_provider_cfqueues.emulator.conformance.run import FACTS, MAX_SECONDS, Moving, RunResult, run

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
NEVER_SEEN = {"rate-limit", "second-subscription", "notification-consumer"}
OF_ACCOUNT_TOKENS = {"account-token", "account-token-at-user"}
OF_USER_TOKENS = {"user-token", "user-token-at-account"}


@pytest.fixture
def make_cf() -> Iterator[Any]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(**options))


def check(cf: Emulator, base_url: str | None = None) -> RunResult:
    api = Api(base_url or cf.base_url, cf.account_id, cf.api_token)
    try:
        return run(api, Moving(api))
    finally:
        api.close()


def differing(result: RunResult) -> set[str]:
    return {item.fact.name for item in result.differences}


def unseen(result: RunResult) -> set[str]:
    return {item.fact.name for item in result.seen if item.seen is None}


def test_the_emulator_does_what_it_assumes(cf):
    result = check(cf)
    assert {item.fact.name: item.seen for item in result.differences} == {}
    assert unseen(result) == NEVER_SEEN | OF_ACCOUNT_TOKENS
    assert [item.fact for item in result.seen] == list(FACTS)


def test_a_run_takes_what_it_says_and_not_more(cf):
    result = check(cf)
    assert abs(result.operations - command.OPERATIONS) <= 10
    assert abs(result.operations - cf.state()["operations_today"]) <= 10
    assert command.OPERATIONS < 1000
    assert result.seconds + result.requests / 3 < 60 * command.MINUTES < MAX_SECONDS


def test_the_token_of_an_account_is_verified_as_one(make_cf):
    result = check(make_cf(api_token="cfat_secret"))
    assert (differing(result), unseen(result)) == (set(), NEVER_SEEN | OF_USER_TOKENS)


def test_every_assumption_has_a_fact():
    assert {fact.assumption for fact in FACTS} - {""} == set(ASSUMPTIONS)
    assert len({fact.name for fact in FACTS}) == len(FACTS)


SWITCHES = [(name, choice) for name, choices in ASSUMPTIONS.items() for choice in choices[1:] if name != "rate-limit"]


@cache
def reversed_assumption(name: str, choice: str) -> RunResult:
    with Emulator(assume={name: choice}) as cf:
        return check(cf)


@pytest.mark.parametrize(("name", "choice"), SWITCHES)
def test_a_reversed_assumption_is_the_only_difference(name, choice):
    assert {item.fact.assumption for item in reversed_assumption(name, choice).differences} == {name}


class Renumbered(Lie):
    """Every refusal has another code."""

    def answer(self, action, status, body, queue):
        for error in body.get("errors", []):
            error["code"] += 1
        return status, body


class Accepting(Lie):
    """What is refused is answered as if it were not."""

    def answer(self, action, status, body, queue):
        return (status, body) if status == 200 else (200, {"success": True, "result": {}})


class Refusing(Lie):
    """What succeeds is refused, but for what every probe needs."""

    needed = ("POST queues", "POST consumers", "POST messages/pull", "GET queues", "DELETE queue", "PUT", "PATCH")

    def answer(self, action, status, body, queue):
        if status != 200 or action.startswith(self.needed):
            return status, body
        return 418, {"success": False, "errors": [{"code": 1}]}


class Strange(Lie):
    """Answers have other keys and other values."""

    def answer(self, action, status, body, queue):
        result = body.get("result")
        if action == "POST messages/pull" and result:
            for message in result["messages"]:
                message["body"] += queue
                message["attempts"] += 1
                message["metadata"] = {"type": "x"}
                message["extra"] = 1
                message["lease_id"] = "x" + message["lease_id"]
            result["messages"] = result["messages"] or None
        if isinstance(result, dict):
            counts = {key: value + 1 for key, value in result.items() if key.endswith(("ount", "bytes"))}
            result |= {**counts, "extra": 1, "completed": "perhaps"}
            result.pop("metadata", None)
            result["settings"] = {"x": 1}
        return status, {**body, "result": result, "extra": 1}

    def ask(self, action, body):
        for item in (*body.get("acks", ()), *body.get("retries", ()), *body.get("extend", ())):
            item["lease_id"] = item["lease_id"].removeprefix("x")
        return body


class Warned(Lie):
    """Warnings are a list, and every ack has one."""

    def answer(self, action, status, body, queue):
        if action.startswith(("POST messages/ack", "POST messages/purge", "POST messages/extend")) and status == 200:
            body["result"]["warnings"] = list(body["result"]["warnings"].values()) or ["as always"]
        return status, body


class Forgetful(Lie):
    """Delays are not kept, and the old name of the visibility timeout is the right one."""

    def ask(self, action, body):
        if action.startswith(("POST consumers", "PUT consumers")):
            body.get("settings", {}).pop("retry_delay", None)
        if action == "POST messages" and body.get("delay_seconds") == 0:
            body["delay_seconds"] = 600
        if action == "POST messages/pull" and "visibility_timeout" in body:
            body["visibility_timeout_ms"] = body.pop("visibility_timeout") * 1000
        if action == "POST messages/ack":
            for item in body["retries"]:
                if item.get("delay_seconds") == 0:
                    item["delay_seconds"] = 600
        if action == "POST purge":
            body = {}
        return body


class Idle(Lie):
    """Nothing that looks, deletes or extends does what it says, and lists are empty."""

    def __init__(self) -> None:
        self.queues = 0

    def ask(self, action, body):
        if action == "POST messages/preview/ack":
            return {"acks": body["retries"]}
        return {"refs": [], "extend": []} if action in ("POST messages/purge", "POST messages/extend") else body

    def answer(self, action, status, body, queue):
        if action == "POST messages/peek":
            for message in body["result"]["messages"]:
                message["attempts"] += 1
        if action == "GET queues":
            self.queues += 1
            body |= {"result": [], "result_info": {"per_page": 3, "total_count": self.queues}}
        if action.startswith("PUT consumers"):
            return 404, {"success": False, "errors": [{"code": 1}]}
        return status, body


class Undone(Lie):
    """What is previewed is not acked, and no late retry is counted."""

    def ask(self, action, body):
        return {} if action in ("POST messages/preview/ack", "POST messages/ack") else body


class Late(Lie):
    """A consumer is known after its second pull, and a lease given back late takes the message from its holder."""

    def __init__(self) -> None:
        self.pulled: dict[str, int] = {}

    def answer(self, action, status, body, queue):
        if action == "POST messages/pull":
            self.pulled[queue] = self.pulled.get(queue, 0) + 1
            if self.pulled[queue] <= 3 and status == 200 and not body["result"]["messages"]:
                return 405, {"success": False, "errors": [{"code": 0}]}
        return status, body


LIES = (Renumbered, Accepting, Refusing, Strange, Warned, Forgetful, Idle, Undone, Late)


def test_no_probe_always_agrees(make_cf):
    of_user, of_account = make_cf(), make_cf(api_token="cfat_secret")
    found = differing(check(make_cf(rate_limit=5000)))
    for switch in SWITCHES:
        found |= differing(reversed_assumption(*switch))
    for cf, lie in [*((of_user, lie) for lie in LIES), (of_account, Accepting), (of_account, Refusing)]:
        with proxy(cf.base_url, lie()) as base_url:
            found |= differing(check(cf, base_url))
    assert {fact.name for fact in FACTS} - NEVER_SEEN - found == set()


def conform(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "conformance", *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False, **options)


def test_the_command_checks_this_emulator_and_says_what_it_takes(tmp_path):
    done = conform("--report", str(tmp_path / "report.md"))
    assert (done.returncode, done.stdout) == (0, "")
    assert "about 530 operations (at most 1,000)" in done.stderr.splitlines()[0]
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["endpoint"] == "this emulator"
    assert [fact["name"] for fact in found["facts"]] == [fact.name for fact in FACTS]
    table = (tmp_path / "report.md").read_text()
    assert "| late-ack | An ack after the lease ended. | 1 counted, without a warning or 0 counted" in table
    assert "0 differences" in done.stderr


def test_a_difference_is_an_exit_code_and_a_place_to_report_it(make_cf):
    cf = make_cf(assume={"order": "sent-first"})
    done = conform("--base-url", cf.base_url)
    assert done.returncode == 1
    assert "| the older one | **no** |" in done.stdout
    assert "issues/new?template=conformance.yml" in done.stdout


def test_no_queue_is_left_and_no_other_queue_is_touched(cf):
    cf.send(cf.queues["my-queue"], {"a": 1})
    cf.add_fault("queues", drop="after")  # the first queue of the run: its answer is lost
    before = cf.state()["queues"]
    result = check(cf)
    assert cf.state()["queues"] == before
    assert result.left == []
    assert "no answer: RemoteDisconnected" in {item.reason for item in result.seen}


def test_what_a_failing_endpoint_answers_is_no_difference(cf):
    cf.add_fault("pull", status=503, share=0.2, times=1000)
    result = check(cf)
    assert differing(result) == set()
    assert "the endpoint answered 503" in {item.reason for item in result.seen}
    assert list(cf.queues) == ["my-queue"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_deletes_its_queues(cf, number):
    cf.add_fault("purge", delay_ms=15_000)  # it is still under way when the signal comes, however busy the machine
    program = [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "conformance", "--base-url", cf.base_url]
    with subprocess.Popen(
        program,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background job ignores Ctrl-C
    ) as running:
        while not any(request["path"].endswith("/peek") for request in cf.requests()):
            time.sleep(0.01)
        assert len(cf.queues) > 1
        running.send_signal(number)
        out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (2, "")
    assert err.splitlines()[-1] == "Stopped."
    assert list(cf.queues) == ["my-queue"]


def test_queues_that_cannot_be_deleted_at_first_are_deleted_after_the_block(make_cf):
    cf = make_cf(rate_limit=200)
    result = check(cf)
    assert "the endpoint refuses further calls (429, code 971)" in {item.reason for item in result.seen}
    assert (result.left, list(cf.queues)) == ([], ["my-queue"])


class Undeletable(Lie):
    def ask(self, action, body):
        return body

    def answer(self, action, status, body, queue):
        return (403, {"success": False, "errors": []}) if action == "DELETE queue" else (status, body)


def test_queues_that_cannot_be_deleted_are_named(cf):
    with proxy(cf.base_url, Undeletable()) as base_url:
        done = conform("--base-url", base_url)
    assert "could not be deleted" in done.stderr


class Indiscreet(Lie):
    """Answers repeat the credentials."""

    def answer(self, action, status, body, queue):
        if action == "POST messages/ack" and body["result"]:
            for lease in body["result"]["warnings"]:
                body["result"]["warnings"][lease] = "Bearer top-secret of account 4cc0"
        return status, body


def test_no_secret_is_shown(make_cf):
    cf = make_cf(api_token="top-secret", account_id="4cc0")
    environment = {"CLOUDFLARE_API_TOKEN": "top-secret", "CLOUDFLARE_ACCOUNT_ID": "4cc0"}
    with proxy(cf.base_url, Indiscreet()) as base_url:
        done = conform("--base-url", base_url, env=environment)
    assert "<TOKEN>" in done.stdout
    assert not {secret for secret in ("top-secret", "4cc0") if secret in done.stdout + done.stderr}


def test_a_token_in_the_environment_alone_leads_nowhere():
    code = """
import sys
from airflow_provider_cfqueues.emulator.conformance import command, report

def audit(event, args):
    host = {"socket.connect": lambda: args[1][0], "socket.getaddrinfo": lambda: args[0]}.get(event, lambda: "127.0.0.1")
    if host() != "127.0.0.1":
        print("WENT TO", args)

sys.addaudithook(audit)
sys.exit(command.main([]))
"""
    environment = {"CLOUDFLARE_API_TOKEN": "real", "CLOUDFLARE_ACCOUNT_ID": "real"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, "WENT TO" in done.stdout) == (0, False), done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "error"),
    [
        (["--cloudflare"], {}, "set CLOUDFLARE_API_TOKEN"),
        (["--cloudflare"], {"CLOUDFLARE_API_TOKEN": "t"}, "set CLOUDFLARE_API_TOKEN, and CLOUDFLARE_ACCOUNT_ID or"),
        (["--base-url", "http://example.com/client/v4"], {}, "an https address"),
        (["--base-url", "http://127.0.0.1:1/"], {"CLOUDFLARE_API_TOKEN": "sec\nret"}, "such as a line break"),
        (["--base-url", "http://127.0.0.1:1/", "--account-id", "a/b"], {}, "such as a line break"),
        (["--base-url", "nonsense"], {}, "an https address"),
        (["--base-url", "http://127.0.0.1:1/client/v4"], {}, "Connection refused"),
        (["--report", "report.html"], {}, "name a file that ends in .md"),
        (["--cloudflare", "--base-url", "x"], {}, "not allowed with"),
    ],
)
def test_what_cannot_start_says_why(arguments, environment, error):
    done = conform(*arguments, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr.splitlines()[-1]


def test_an_endpoint_that_fails_at_once_is_told_from_one_that_refuses(cf):
    cf.add_fault("queues", status=503)
    done = conform("--base-url", cf.base_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith("the endpoint answered 503")


def test_a_token_that_is_refused_is_told_before_anything_is_created(cf):
    done = conform("--base-url", cf.base_url, env={"CLOUDFLARE_API_TOKEN": "wrong"})
    assert done.returncode == 2
    assert "refuses to list the queues of the account (401, code 10000)" in done.stderr
    assert [request["method"] for request in cf.requests()] == ["GET"]


def test_the_suite_needs_nothing_but_the_standard_library():
    code = """
import sys
before = set(sys.modules)
from airflow_provider_cfqueues.emulator.conformance import command, report
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["airflow_provider_cfqueues"]


def test_the_documentation_shows_the_newest_report(cf):
    rows = [line for line in report.as_markdown(check(cf), "", "").splitlines() if line.startswith("| ")]
    page = (DOCS / "conformance.md").read_text(encoding="utf-8")
    assert [row for row in rows if row not in page] == []
    assert page.count("\n| ") == len(rows) + 4, "a row of a fact that is no more"
    assert f"One command checks {len(FACTS)} facts" in (DOCS / "emulator.md").read_text(encoding="utf-8")
    assert "ot yet run against\nCloudflare" in page


def test_without_the_extra_only_the_emulator_itself_cannot_be_checked():
    code = """
import sys
sys.modules["starlette"] = None
from airflow_provider_cfqueues.emulator.conformance import command
command.main([])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'airflow-provider-cfqueues[emulator]'" in done.stderr.splitlines()[-1]
