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
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.chaos_audit import Run, Verdict, audit, read_handled

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
    runs: list[Run] = field(default_factory=list)
    cloudflare: dict[str, Any] = field(default_factory=dict)
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

    def calls(self) -> int:
        """Return how many calls of the API the emulator has logged."""
        return (self.folder / "emulator.log").read_text().count(" -> ")

    def control(self, method: str, name: str, body: Any = None) -> Any:
        """Call a control path of the emulator, which no fault meets."""
        import requests

        root = self.cloudflare["base_url"].removesuffix("/client/v4")
        response = requests.request(method, f"{root}/_emulator/{name}", json=body, timeout=30)
        response.raise_for_status()
        return response.json()

    def queue(self, name: str) -> dict[str, Any]:
        """Return what the emulator knows of a queue."""
        return next(queue for queue in self.control("GET", "state")["queues"] if queue["name"] == name)


@contextmanager
def emulator(folder: Path) -> Iterator[dict[str, Any]]:
    """Start the emulator as a process of its own; its state file is what is looked at when it has ended."""
    command = [sys.executable, "-m", "airflow_provider_cfqueues.emulator", "--port", "0"]
    command += ["--queue", "orders", "--queue", "failed", "--state", str(folder / "state")]
    with (folder / "emulator.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.wait()


def prepare(chaos: Chaos) -> None:
    """Point Airflow at the emulator, give the queue a dead-letter queue, send the messages, let requests fail."""
    import requests

    cloudflare = chaos.cloudflare
    os.environ["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"] = json.dumps(
        {
            "conn_type": "cloudflare",
            "host": cloudflare["base_url"],
            "password": cloudflare["api_token"],
            "extra": {"account_id": cloudflare["account_id"]},
        }
    )
    url = f"{cloudflare['base_url']}/accounts/{cloudflare['account_id']}/queues/{cloudflare['queues']['orders']}"
    headers = {"Authorization": f"Bearer {cloudflare['api_token']}"}
    (consumer,) = requests.get(f"{url}/consumers", headers=headers, timeout=30).json()["result"]
    # As many deliveries as there can be: what is in the dead-letter queue must have been put there by the task.
    wanted = {"type": "http_pull", "dead_letter_queue": "failed", "settings": {"max_retries": 100}}
    requests.put(
        f"{url}/consumers/{consumer['consumer_id']}", json=wanted, headers=headers, timeout=30
    ).raise_for_status()
    send(chaos)
    chaos.control("POST", "faults", faults(chaos.dice))


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
    hook.send(chaos.cloudflare["queues"]["orders"], bodies)
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

    output = os.open(chaos.folder / f"run-{run.number}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    handled = os.open(chaos.handled, os.O_WRONLY | os.O_APPEND)

    def handle(message: Any) -> None:
        n, fails = message.body["n"], message.body["fails"]
        outcome = "reject" if fails < 0 else "fail" if message.attempts <= fails else "ok"
        time.sleep(message.body["seconds"])
        os.write(handled, f"{n:8} {message.id} {message.attempts:4} {outcome:6} {run.number:4}\n".encode())
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
    (chaos.folder / f"run-{run.number}.json").write_text(json.dumps(result))


def run_once(chaos: Chaos, backlog: int) -> None:
    """Run the task to its end, or kill it at a random moment."""
    dice = chaos.dice
    run = Run(number=len(chaos.runs))
    chaos.runs.append(run)
    size = chaos.handled.stat().st_size
    record = len(f"{0:8} {'0' * 32} {0:4} {'':6} {0:4}\n")
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
            chaos.control("POST", "clock", {"advance_seconds": LEASE_SECONDS + 1})
            run.clock_moved, jump = True, None
        if (chaos.kills_left and (made >= gap or seconds >= moment)) or chaos.time_is_up:
            run.killed = True
            process.kill()
            break
        time.sleep(POLL_SECONDS)
    process.join()
    run.killed = process.exitcode == -signal.SIGKILL  # it may have ended by itself just before
    result = chaos.folder / f"run-{run.number}.json"
    if not run.killed:
        ended = json.loads(result.read_text()) if result.exists() else {"error": f"exit code {process.exitcode}"}
        run.report, run.error = ended.get("report"), ended.get("error")


def process_until_empty(chaos: Chaos) -> None:
    """Restart the task until the queue is empty; the clock is moved, so that no lease has to be waited for."""
    while not chaos.time_is_up and (backlog := chaos.queue("orders")["backlog_count"]):
        run_once(chaos, backlog)
        if chaos.dice.random() < 0.8:
            chaos.control("POST", "clock", {"advance_seconds": LEASE_SECONDS + DELAY_SECONDS})


def wreak(messages: int, kills: int, seed: int, seconds: float, keep: Path | None) -> Verdict:
    """Wreak the havoc and return what became of the messages."""
    with tempfile.TemporaryDirectory(prefix="cfqueues-chaos-") as name:
        folder = Path(name)
        os.environ.update(
            AIRFLOW_HOME=name,
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{name}/airflow.db",
        )
        import airflow_provider_cfqueues.operators.process  # noqa: F401 - once, before the forks

        chaos = Chaos(messages, kills, seconds, random.Random(seed), folder)
        chaos.handled.touch()
        with emulator(folder) as chaos.cloudflare:
            prepare(chaos)
            prepared = chaos.calls()
            process_until_empty(chaos)
            rules = chaos.control("GET", "state")["faults"]
        verdict = audit(messages, read_handled(chaos.handled), chaos.runs, folder / "state")
        if chaos.kills_left:
            verdict.problems.append(f"{chaos.kills_left} of {kills} kills were not made")
        if chaos.time_is_up:
            verdict.problems.append(f"not done after {seconds:g} s")
        hits = dict.fromkeys(FAULTS, 0)
        for rule in rules:
            kind = next(name for name, kind in FAULTS.items() if kind.items() <= rule.items())
            hits[kind] += OFTEN - rule["times"]
        verdict.facts |= {"seed": seed, "requests": chaos.calls() - prepared, "faults": hits}
        verdict.facts["seconds"] = round(time.monotonic() - chaos.began, 1)
        if keep is not None:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
    return verdict


def show(verdict: Verdict) -> None:
    """Print a table for people and one line of JSON for programs."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "count", title="What became of the messages")
    for name, value in verdict.facts.items():
        if isinstance(value, dict):
            for cause, count in value.items():
                table.add_row(f"  {name}: {cause}" if name == "faults" else f"  {cause}", str(count))
        else:
            table.add_row(name, str(value))
    console = Console(width=100)
    console.print(table)
    for problem in verdict.problems:
        console.print(f"WRONG  {problem}", style="red", markup=False)
    print(json.dumps({"ok": not verdict.problems, **verdict.facts, "problems": verdict.problems}))


def main() -> int:
    """Wreak havoc as the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--messages", type=int, default=10_000, help="how many to send (%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="how often the task is killed with -9 (%(default)s)")
    parser.add_argument("--seed", type=int, help="of messages, faults and kills (drawn and printed)")
    parser.add_argument("--seconds", type=float, default=300, help="give up after so long (%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy logs, reports and state file there")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the emulator is ended too
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    print(f"Seed {seed}", flush=True)
    verdict = wreak(given.messages, given.kills, seed, given.seconds, given.keep)
    show(verdict)
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
