"""
Change the code in small ways, one at a time, and show which changes no test notices. Called by ``scripts/mutate``.

mutmut writes the changed functions beside the right one, and a process can switch to one of them. So the tests are
collected once. Each change is tried in a fork of this process, with the tests that call the changed function. The
fastest run first, and the first failure ends the try. mutmut's own loop would start pytest for each change, which costs
more than most tests do.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from _pytest.warnings import catch_warnings_for_item
from mutmut.__main__ import create_file_mutants
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.file_utils import change_cwd, setup_source_paths, walk_mutatable_files
from mutmut.workers.isolation import run_in_fork_with_result

ENOUGH = 10.0
"""Seconds of tests that a change has to survive, so that what everything calls is not tried with every test."""

TIME_OUT = 20
"""Seconds, and ten times as long as a test takes otherwise, after which a change that makes it hang is noticed."""

PYTEST = ["-q", "-s", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
"""An async generator that a killed process leaves behind warns only inside the one that mutmut puts around it."""

TESTS = {
    "client/settings": """unit/test_settings.py integration/test_connection.py integration/test_connections.py
        integration/test_links.py integration/test_transport.py integration/test_errors.py""",
    "client/environment": """unit/test_environment.py integration/test_connections.py integration/test_transport.py
        integration/test_connection.py""",
    "client/administration": "integration/test_administration.py integration/test_administration_operators.py",
    "client/queue_calls": """integration/test_administration.py integration/test_lookup.py integration/test_purge.py
        integration/test_administration_operators.py integration/test_connection.py integration/test_odd_answers.py
        integration/test_operators.py integration/test_telemetry.py""",
    "client/purging": "integration/test_purge.py integration/test_administration.py",
    "client/": """unit/test_call.py integration/test_ack.py integration/test_pull.py integration/test_send.py
        integration/test_lookup.py integration/test_limits.py integration/test_odd_answers.py
        integration/test_connections.py integration/test_connection.py integration/test_event_loops.py
        integration/test_errors.py integration/test_repeats.py integration/test_transport.py
        integration/test_administration.py integration/test_foreign_text.py integration/test_operators.py
        integration/test_retry_policy.py integration/test_notifier.py integration/test_last_deliveries.py
        integration/test_telemetry.py integration/test_names.py integration/test_night.py""",
    "engines/processing/journal": "integration/test_journal.py harness/seeds.py",
    "engines/processing/": """unit/test_window.py unit/test_settlement.py unit/test_settling.py harness/seeds.py
        unit/test_matching.py unit/test_report.py integration/test_process.py integration/test_handlers.py
        integration/test_ends.py integration/test_last_deliveries.py integration/test_journal.py
        integration/test_night.py integration/test_names.py integration/test_limits.py integration/test_odd_answers.py
        integration/test_foreign_text.py integration/test_telemetry.py integration/test_on_call.py""",
    "engines/redriving/": """integration/test_redrive.py integration/test_redrive_rule.py integration/test_night.py
        integration/test_on_call.py integration/test_foreign_text.py integration/test_telemetry.py harness/seeds.py""",
    "engines/watching/": """unit/test_deliveries.py integration/test_watching.py integration/test_watching_alone.py
        integration/test_watching_runs.py integration/test_asset_manager.py integration/test_message_queue.py
        integration/test_night.py integration/test_on_call.py integration/test_telemetry.py harness/seeds.py""",
    "engines/probing": """integration/test_sensors.py integration/test_night.py integration/test_on_call.py
        integration/test_telemetry.py""",
    "engines/waiting": """unit/test_window.py integration/test_sensors.py integration/test_night.py
        integration/test_watching_alone.py integration/test_process.py integration/test_ends.py""",
    "engines/triggering": "unit/test_triggering.py integration/test_runs.py",
    "engines/threads": "unit/test_threads.py integration/test_handlers.py integration/test_ends.py",
    "engines/": """unit/test_settlement.py unit/test_settling.py unit/test_unmatched.py harness/seeds.py
        integration/test_last_deliveries.py integration/test_process.py integration/test_ends.py
        integration/test_redrive.py integration/test_names.py
        integration/test_redrive_rule.py integration/test_night.py integration/test_on_call.py
        integration/test_watching.py integration/test_watching_alone.py integration/test_odd_answers.py
        integration/test_foreign_text.py integration/test_telemetry.py""",
}
"""The tests that know a module, by the first line that fits it; none that starts processes or DAG runs."""


class Trials:
    """
    A plugin of pytest that tries changes instead of running the tests once.

    :param mutants: the names of the changes, and the files that they are in.
    :param processes: how many are tried at once.
    """

    def __init__(self, mutants: dict[str, Path], processes: int) -> None:
        self._mutants = mutants
        self._processes = processes
        self._running: dict[int, str] = {}
        self.outcomes: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not {"worker", "program"} & set(getattr(item, "fixturenames", ()))]

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed:
            return None  # pytest says which files could not be collected
        durations, callers, failed = run_in_fork_with_result(_record, session)
        if failed:
            print("Left out, as they fail without any change:", *failed, sep="\n  ")
        for mutant in self._mutants:
            tests = sorted(callers.get(mutant.partition("__mutmut_")[0], []), key=durations.__getitem__)
            spent = accumulate(durations[test] for test in tests)
            tests = [test for test, before in zip(tests, [0.0, *spent], strict=False) if before < ENOUGH]
            if not tests:
                self._end(mutant, "not called")
                continue
            if len(self._running) == self._processes:
                self._reap()
            pid = os.fork()
            if pid == 0:
                _try(mutant, {session.items[test]: TIME_OUT + 10 * round(durations[test]) for test in tests})
            self._running[pid] = mutant
        while self._running:
            self._reap()
        return True

    def _reap(self) -> None:
        pid, status = os.wait()
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # processes that its tests left behind
        outcomes = {0: "survived", -signal.SIGALRM: "hung", -signal.SIGXCPU: "hung"}
        self._end(self._running.pop(pid), outcomes.get(os.waitstatus_to_exitcode(status), "killed"))

    def _end(self, mutant: str, outcome: str) -> None:
        self.outcomes[mutant] = outcome
        if outcome == "killed":
            return
        print(f"{len(self.outcomes)} of {len(self._mutants)}: {mutant}: {outcome}")
        if outcome == "survived":
            with change_cwd(".."):
                lines = get_diff_for_mutant(mutant, path=self._mutants[mutant]).splitlines()[2:]
            print(*(line for line in lines if line.startswith(("-", "+"))), sep="\n", flush=True)


def _record(session: pytest.Session) -> tuple[dict[int, float], dict[str, list[int]], list[str]]:
    """Run every test once, and return how long each takes, which of them call a function, and which fail."""
    durations: dict[int, float] = {}
    failed: list[str] = []
    callers: defaultdict[str, list[int]] = defaultdict(list)
    set_mutant_under_test("stats")
    _be_quiet()
    for index, item in enumerate(session.items):
        following = session.items[index + 1] if index + 1 < len(session.items) else None
        reports = _run(item, following)
        durations[index] = sum(report.duration for report in reports)
        if any(report.failed for report in reports):
            failed.append(item.nodeid)
        else:
            for function in state()._stats:
                callers[function].append(index)
        state()._stats.clear()
    return durations, dict(callers), failed


def _run(item: pytest.Item, following: pytest.Item | None) -> list[pytest.TestReport]:
    with catch_warnings_for_item(config=item.config, ihook=item.ihook, when="runtest", item=item):  # its own filters
        return runtestprotocol(item, nextitem=following, log=False)


def _try(mutant: str, items: dict[pytest.Item, int]) -> None:
    """Run tests on a changed function, each for its seconds; the process ends with 1 as soon as one fails."""
    os.setpgrp()
    _be_quiet()
    longest = max(items.values()) + round(5 * ENOUGH)
    resource.setrlimit(resource.RLIMIT_CPU, (longest, longest + 5))  # Airflow's own time-outs replace the alarm
    status = 1
    try:
        set_mutant_under_test(mutant)
        for item, following in zip(items, [*list(items)[1:], None], strict=True):
            signal.alarm(items[item])
            if any(report.failed for report in _run(item, following)):
                break
        else:
            status = 0
    finally:
        os._exit(status)


def _be_quiet() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _tests_of(path: Path) -> str:
    name = str(path).partition("/")[2]
    return next((tests for start, tests in TESTS.items() if name.startswith(start)), "unit")


def _mutants_of(path: Path, every: int, only: set[str]) -> list[str]:
    result = create_file_mutants(path)
    if result.error:
        raise result.error
    data = SourceFileMutationData(path=path)
    data.load()
    if only:
        return [mutant for mutant in data.exit_code_by_key if mutant in only]
    return list(data.exit_code_by_key)[every // 2 :: every]


def _table(paths: dict[Path, list[str]], outcomes: dict[str, str]) -> Iterator[str]:
    yield f"{'module':<40} {'changes':>8} {'killed':>8} {'hung':>8} {'survived':>8} {'not called':>10} {'noticed':>8}"
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path, mutants in paths.items():
        counts = Counter(outcomes[mutant] for mutant in mutants)
        name = str(path).partition("/")[2]
        for total in (f"{name.rpartition('/')[0]}/", "all"):
            totals[total] += counts
        yield _row(name, counts)
    yield from (_row(name, total) for name, total in sorted(totals.items(), reverse=True))


def _row(name: str, counts: Counter[str]) -> str:
    columns = f"{counts['killed']:>8} {counts['hung']:>8} {counts['survived']:>8} {counts['not called']:>10}"
    noticed = 100 * (counts["killed"] + counts["hung"]) / max(counts.total(), 1)
    return f"{name:<40} {counts.total():>8} {columns} {noticed:>7.0f}%"


def main() -> int:
    """Try the changes of the files that pyproject.toml names."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="", help="these changes, by the names that an earlier run printed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tests", help="these instead of those that know each module")
    arguments = parser.parse_args()
    set_mutant_under_test("mutant_generation")
    setup_source_paths()
    by_tests: defaultdict[str, dict[Path, list[str]]] = defaultdict(dict)
    for path in sorted(walk_mutatable_files()):
        if mutants := _mutants_of(path, arguments.every, set(arguments.only.split())):
            by_tests[arguments.tests or _tests_of(path)][path] = mutants
    paths: dict[Path, list[str]] = {}
    outcomes: dict[str, str] = {}
    for tests, some in by_tests.items():
        trials = Trials({mutant: path for path, mutants in some.items() for mutant in mutants}, arguments.processes)
        files = [f"tests/{test}" for test in tests.split()]
        with change_cwd("mutants"):
            status = pytest.main([*PYTEST, *files], plugins=[trials])
        if status != pytest.ExitCode.OK:
            return int(status)
        paths |= some
        outcomes |= trials.outcomes
        print(*_table(some, outcomes), sep="\n", flush=True)
    print(*_table(paths, outcomes), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
