"""The audit finds what it is there to find."""

from __future__ import annotations

import json

import pytest

from harness.audit import GONE_UNACKED, Verdict, account, check_queue, show

TOTALS = {"acked": 3, **dict.fromkeys(GONE_UNACKED, 0)}


def test_nothing_is_wrong_where_all_work_was_done():
    assert account(range(3), [2, 0, 1]) == (set(), set(), {})


def test_a_message_is_lost_if_its_work_was_not_done_and_no_queue_keeps_it():
    assert account(range(4), [0], kept=[2]).lost == {1, 3}


def test_work_that_nobody_asked_for_is_found():
    assert account([1], [1, 2]).strange == {2}


def test_work_that_was_done_again_is_counted():
    assert account(range(3), [0, 1, 1, 1, 2, 2]).again == {1: 2, 2: 1}


@pytest.mark.parametrize("totals", [{"acked": 2}, *({way: 1} for way in GONE_UNACKED)])
def test_a_message_that_left_its_queue_without_an_ack_is_a_problem(totals):
    verdict = Verdict()
    check_queue(verdict, "orders", TOTALS, 3)
    assert verdict.problems == []
    check_queue(verdict, "orders", TOTALS | totals, 3)
    assert len(verdict.problems) == 1


def test_the_exit_code_says_whether_there_was_a_problem(capsys):
    verdict = Verdict({"messages": 3})
    assert show("What became of the messages", {"chaos": verdict}) == 0
    verdict.none_of("lost", [7])
    assert show("What became of the messages", {"chaos": verdict}) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told == {"ok": False, "chaos": {"messages": 3, "lost": 1}, "problems": ["chaos: lost: 1, such as [7]"]}
