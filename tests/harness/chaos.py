"""
Process a queue while one request in ten fails and the task is killed with -9, then compare what came of each message.

Called by ``scripts/chaos``, which sets up the environment. The emulator and each run of the task are processes of their
own. What is compared at the end: the handlers' log (each handler appends a line before it returns), the emulator's
ledger of used leases, and the dead-letter queue. The exit code is 0 only if nothing is wrong.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.audit import Verdict, show
from harness.cloudflare import Cloudflare, Queue, cloudflare
from harness.ledger import Handled, Run, audit, read_handled
from harness.local_airflow import airflow_home, ended_in_order

FAILING = 0.10
PATHS = ("pull", "ack", "batch", "consumers", "queues")
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "headers": {"retry-after": "1"}, "body": {"success": False, "errors": []}},
    "500": {"status": 500, "body": {"success": False, "errors": []}},
    "500, applied": {"status": 500, "apply": True},
    "503": {"status": 503},
    "slow": {"delay_ms": 300},
    "dropped before": {"drop": "before"},
    "dropped after being applied": {"drop": "after"},
    "truncated": {"truncate": True},
    "truncated, complete as HTTP": {"truncate": 20},
    "HTML with 200": {"status": 200, "body": "<html>Sign in to the hotel's network</html>"},
    "HTML with 502": {"status": 502, "body": "<html>Bad gateway</html>"},
}
OFTEN = 1_000_000
LEASE_SECONDS = 300
DELAY_SECONDS = 30
POISON_SHARE = 0.02
FLAKY_SHARE = 0.05
SLOW_SHARE = 0.02
SLOW_SECONDS = 0.05
POLL_SECONDS = 0.002


@dataclass
class Chaos:
    """One run of the chaos: what was asked for and what is known so far."""

    messages: int
    kills: int
    seconds: float
    dice: random.Random
    folder: Path
    cloudflare: Cloudflare
    runs: list[Run] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def handled(self) -> Path:
        """The handlers' log."""
        return self.folder / "handled"

    @property
    def kills_left(self) -> int:
        """How many kills are still to come."""
        return self.kills - sum(run.killed for run in self.runs)

    @property
    def time_is_up(self) -> bool:
        """Whether the limit is reached."""
        return time.monotonic() - self.began > self.seconds

    @property
    def queue(self) -> Queue:
        """The queue that is processed."""
        return self.cloudflare.queue("orders")


def prepare(chaos: Chaos) -> None:
    """Point Airflow at the emulator, give the queue a dead-letter queue, send the messages, let requests fail."""
    os.environ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"] = json.dumps(chaos.cloudflare.connection)
    # As many deliveries as there can be: what is in the dead-letter queue must have been put there by the task.
    chaos.queue.set_dead_letter_queue("failed", max_retries=100)
    send(chaos)
    chaos.cloudflare.add_faults(*faults(chaos.dice))


def send(chaos: Chaos) -> None:
    """Send the messages: ``n`` counts them; ``fails`` deliveries fail, -1 for poison; each takes ``seconds``."""
    from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

    def fails() -> int:
        kind = chaos.dice.random()
        return -1 if kind < POISON_SHARE else chaos.dice.randint(1, 3) if kind < POISON_SHARE + FLAKY_SHARE else 0

    def seconds() -> float:
        return chaos.dice.uniform(0, SLOW_SECONDS) if chaos.dice.random() < SLOW_SHARE else 0

    hook = CloudflareQueuesHook()
    bodies = [{"n": n, "fails": fails(), "seconds": seconds()} for n in range(chaos.messages)]
    hook.send(chaos.queue.queue_id, bodies)
    hook.close()


def faults(dice: random.Random) -> list[dict[str, Any]]:
    """Return rules that make every call fail with the same probability in each way."""
    share = FAILING / len(FAULTS)
    rules = []
    for path in PATHS:
        kinds = dice.sample(list(FAULTS.values()), len(FAULTS))
        for position, kind in enumerate(kinds):  # a rule sees only what those before it let pass
            rule = {"path": path, "share": share / (1 - position * share), "seed": dice.getrandbits(32)}
            rules.append({**rule, "times": OFTEN, **kind})
    return rules


def task(chaos: Chaos, run: Run) -> None:
    """Run the operator once, as Airflow would, in a process that may be killed at any moment."""
    from airflow_provider_cfqueues.operators.process import QueueProcessOperator
    from airflow_provider_cfqueues.outcomes import Reject

    output = os.open(chaos.folder / f"run-{run.name}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    handled = os.open(chaos.handled, os.O_WRONLY | os.O_APPEND)

    def handle(message: Any) -> None:
        n, fails = message.body["n"], message.body["fails"]
        outcome = "reject" if fails < 0 else "fail" if message.attempts <= fails else "ok"
        time.sleep(message.body["seconds"])
        os.write(handled, str(Handled(n, message.attempts, outcome, run.name, time.time())).encode())
        if outcome == "reject":
            raise Reject("poison")
        if outcome == "fail":
            raise RuntimeError("not yet")

    operator = QueueProcessOperator(
        task_id="process",
        queue_name="orders",
        handler=handle,
        concurrency=4,
        idle_timeout=0.2,
        settle_interval=0.1,
        visibility_timeout=LEASE_SECONDS,
        delay_seconds=DELAY_SECONDS,
        fail_on="none",
    )
    try:
        result = {"report": operator.execute({})}
    except Exception as error:  # noqa: BLE001 - whatever ends a task, Airflow tries again
        result = {"error": f"{type(error).__name__}: {error}"[:500]}
    (chaos.folder / f"run-{run.name}.json").write_text(json.dumps(result))


def run_once(chaos: Chaos, backlog: int) -> None:
    """Run the task to its end, or kill it at a random moment."""
    dice = chaos.dice
    run = Run(str(len(chaos.runs)))
    chaos.runs.append(run)
    size = chaos.handled.stat().st_size
    record = len(str(Handled(0, 0, "", "", time.time())))
    # By progress, so that the kills are spread over all the messages, or by time, so that some meet a slow request.
    gap = dice.uniform(0, 1.5) * backlog / (chaos.kills_left + 1)
    moment = dice.choice([dice.uniform(0.02, 0.5), dice.uniform(0.5, 3)])
    jump = dice.uniform(0, 1) * backlog if dice.random() < 0.3 else None
    process = multiprocessing.get_context("fork").Process(target=task, args=(chaos, run))
    process.start()
    began = time.monotonic()
    while process.is_alive():
        seconds = time.monotonic() - began
        made = (chaos.handled.stat().st_size - size) // record
        if jump is not None and made >= jump:  # the leases of a task that is alive end
            chaos.cloudflare.advance(LEASE_SECONDS + 1)
            run.clock_moved, jump = True, None
        if (chaos.kills_left and (made >= gap or seconds >= moment)) or chaos.time_is_up:
            run.killed = True
            process.kill()
            break
        time.sleep(POLL_SECONDS)
    process.join()
    run.killed = process.exitcode == -signal.SIGKILL  # it may have ended by itself just before
    result = chaos.folder / f"run-{run.name}.json"
    if not run.killed:
        ended = json.loads(result.read_text()) if result.exists() else {"error": f"exit code {process.exitcode}"}
        run.report, run.error = ended.get("report"), ended.get("error")


def process_until_empty(chaos: Chaos) -> None:
    """Restart the task until the queue is empty; the clock is moved, so that no lease has to be waited for."""
    while not chaos.time_is_up and (backlog := chaos.queue.backlog):
        run_once(chaos, backlog)
        if chaos.dice.random() < 0.8:
            chaos.cloudflare.advance(LEASE_SECONDS + DELAY_SECONDS)


def wreak(messages: int, kills: int, seed: int, seconds: float, keep: Path | None) -> Verdict:
    """Wreak the havoc and return what became of the messages."""
    with airflow_home() as folder:
        import airflow_provider_cfqueues.operators.process  # noqa: F401 - once, before the forks

        with cloudflare(folder, "orders", "failed", state=folder / "state") as emulated:
            chaos = Chaos(messages, kills, seconds, random.Random(seed), folder, emulated)
            chaos.handled.touch()
            prepare(chaos)
            prepared = emulated.calls()
            process_until_empty(chaos)
            rules = emulated.faults()
        verdict = audit(messages, read_handled(chaos.handled), chaos.runs, folder / "state")
        if chaos.kills_left:
            verdict.problems.append(f"{chaos.kills_left} of {kills} kills were not made")
        if chaos.time_is_up:
            verdict.problems.append(f"not done after {seconds:g} s")
        hits = dict.fromkeys(FAULTS, 0)
        for rule in rules:
            kind = next(name for name, kind in FAULTS.items() if kind.items() <= rule.items())
            hits[kind] += OFTEN - rule["times"]
        verdict.facts |= {"seed": seed, "requests": emulated.calls() - prepared, "faults": hits}
        verdict.facts["seconds"] = round(time.monotonic() - chaos.began, 1)
        if keep is not None:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
    return verdict


def main() -> int:
    """Wreak havoc as the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--messages", type=int, default=10_000, help="how many to send (%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="how often the task is killed with -9 (%(default)s)")
    parser.add_argument("--seed", type=int, help="of messages, faults and kills (drawn and printed)")
    parser.add_argument("--seconds", type=float, default=300, help="give up after so long (%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy logs, reports and state file there")
    given = parser.parse_args()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    print(f"Seed {seed}", flush=True)
    verdict = wreak(given.messages, given.kills, seed, given.seconds, given.keep)
    return show("What became of the messages", {"chaos": verdict})


if __name__ == "__main__":
    sys.exit(ended_in_order(main))
