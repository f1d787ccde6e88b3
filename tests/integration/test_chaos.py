"""scripts/chaos in short: the task is killed while requests fail, and every message is looked for."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

from harness import ledger
from harness.ledger import Run


@pytest.fixture(scope="module")
def chaos(program, tmp_path_factory):
    """What a short chaos printed, and the folder with what it left."""
    folder = tmp_path_factory.mktemp("chaos")
    asked = ("--messages", "600", "--kills", "3", "--seed", "3", "--seconds", "90", "--keep", str(folder))
    return program("harness.chaos", *asked), folder


def test_nothing_is_lost_or_acked_unhandled_while_requests_fail_and_the_task_is_killed(chaos):
    done, _ = chaos
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])["chaos"]
    assert (facts["killed"], facts["lost"], facts["acked but not handled"], facts["left in the queue"]) == (3, 0, 0, 0)
    assert sum(facts["faults"].values()) > 0


@pytest.fixture
def audit(chaos, tmp_path):
    """Audit what the chaos left, after the test has tampered with it."""
    shutil.copy(chaos[1] / "state", tmp_path / "state")
    handled = ledger.read_handled(chaos[1] / "handled")

    def audit(tamper=lambda handled: handled, sql=None, *, killed=True):
        if sql is not None:
            with sqlite3.connect(tmp_path / "state") as db:
                assert db.execute(sql).rowcount > 0
            db.close()
        runs = [Run(name, killed=killed) for name in {line.run for line in handled}]
        return ledger.audit(600, tamper(list(handled)), runs, tmp_path / "state").problems

    return audit


def test_the_audit_finds_nothing_where_nothing_is_wrong(audit):
    assert audit() == []


def test_the_audit_finds_an_ack_without_its_handler(audit):
    first = {}

    def tamper(handled):
        first.update({line.n: line for line in handled if line.outcome == "ok"})
        dropped = first.popitem()[1]
        return [line for line in handled if line != dropped]

    assert any(problem.startswith("acked but not handled: 1") for problem in audit(tamper))


def test_the_audit_finds_an_ack_of_what_failed(audit):
    def tamper(handled):
        return [line._replace(outcome="fail") if line.n == 5 else line for line in handled]

    assert any(problem.startswith("acked but not handled: 1") for problem in audit(tamper))


def test_the_audit_finds_a_rejection_without_its_copy(audit):
    number = "(SELECT max(number) FROM messages)"
    problems = audit(sql=f"DELETE FROM messages WHERE number = {number}")
    assert any(problem.startswith("rejected and acked, but not copied: 1") for problem in problems)


def test_the_audit_explains_no_duplicate_by_a_kill_that_was_none(audit):
    assert any(problem.startswith("duplicates unexplained") for problem in audit(killed=False))


def test_the_audit_finds_what_went_without_an_ack(audit):
    sql = "DELETE FROM used_leases WHERE message = 6"
    assert any(problem.startswith("gone without an ack: 1") for problem in audit(sql=sql))
