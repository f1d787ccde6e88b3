"""The scenarios of ``scripts/e2e`` in which something fails: the database, the API, a task."""

from __future__ import annotations

from typing import Any

from e2e.events import key_of
from e2e.private_airflow import SHORT_ACK_TIMEOUT
from e2e.scenarios import LEASE_SECONDS, numbered, watcher
from e2e.triggerer import Triggerer
from e2e.world import World
from harness.audit import Verdict, check_queue
from harness.chaos import FAULTS
from harness.cloudflare import Queue

AWAY_SECONDS = 10
RUN_SECONDS = 1_800
"""What a run has until its leases end."""
SEND_EVERY_SECONDS = 0.25
MOST_WAITING = 20
TIMES_EACH = 2


def watch(world: World, name: str, **arguments: Any) -> Queue:
    """Make a queue and a DAG that watches it, with the shortest leases that a short ack timeout allows."""
    queue = world.cloudflare.create_queue(name)
    told = world.trigger_arguments([name])
    arguments = {"visibility_timeout": LEASE_SECONDS, "delay_seconds": 0, **told, **arguments}
    world.airflow.write_dags([{"dag_id": name, "watchers": {name: watcher(queue, **arguments)}}])
    return queue


def start(world: World, queue: Queue) -> Triggerer:
    """Start a triggerer, and wait until it pulls from a queue."""
    triggerer = world.airflow.start_triggerer(queue.name, ack_timeout=SHORT_ACK_TIMEOUT)
    world.airflow.until_watching(triggerer, queue.name)
    pulls = queue.calls("pull")
    world.airflow.until("a pull", lambda: queue.calls("pull") > pulls)
    return triggerer


def finish(world: World, queue: Queue, messages: list[dict[str, Any]]) -> Verdict:
    """Wait until all is acked, leases that nobody holds any more included, and compare."""
    world.wait_until_acked(queue, move_clock=LEASE_SECONDS + 1)
    verdict = world.judge({queue.name: messages})
    verdict.facts["messages"] = len(messages)
    check_queue(verdict, queue.name, queue.totals, len(messages))
    return verdict


def database(world: World) -> Verdict:
    """Keep everybody from writing to the database for longer than Airflow waits; what ends by that is started again."""
    airflow, queue = world.airflow, watch(world, "database")
    airflow.keep_alive(start(world, queue))
    messages = numbered(40)
    for n, message in enumerate(messages):
        queue.send([message])
        airflow.pass_time(SEND_EVERY_SECONDS)
        if n == 0:
            airflow.until("its event", lambda: airflow.events(queue.name))  # the first takes longer than those after it
        if n == len(messages) // 2:
            with airflow.locked_database():
                airflow.pass_time(AWAY_SECONDS)
    return finish(world, queue, messages)


def api(world: World) -> Verdict:
    """Let calls fail in all ways, and send messages until each fault has met a call."""
    airflow, queue = world.airflow, watch(world, "api")
    start(world, queue)
    for path in ("pull", "ack"):
        faults = [*FAULTS.values()] * TIMES_EACH
        world.dice.shuffle(faults)
        dice = [{"share": 0.5, "seed": world.dice.getrandbits(32)} for _ in faults]
        world.cloudflare.add_faults(*({"path": path, **die, **fault} for die, fault in zip(dice, faults, strict=True)))
    failing = len(world.cloudflare.faults())
    messages: list[dict[str, Any]] = []
    while world.cloudflare.faults():
        if queue.backlog < MOST_WAITING:  # while the API fails, they wait in the queue
            messages += numbered(1, len(messages))
            queue.send(messages[-1:])
        airflow.pass_time(SEND_EVERY_SECONDS)
    verdict = finish(world, queue, messages)
    verdict.facts["calls that failed"] = failing
    return verdict


def task(world: World) -> Verdict:
    """Let the DAG settle: its first run fails, the lease ends, the second run acks."""
    airflow, queue = world.airflow, world.cloudflare.create_queue("task")
    arguments = watcher(queue, settle="task", visibility_timeout=RUN_SECONDS)
    airflow.write_dags([{"dag_id": "task", "watchers": {"task": arguments}, "task": "ack"}])
    airflow.until_watching(airflow.start_triggerer("task"), queue.name)
    airflow.until_serving()
    (message,) = numbered(1)
    queue.send([message])

    def ended(state: str) -> bool:
        return bool(airflow.query("SELECT 1 FROM dag_run WHERE dag_id = 'task' AND state = ?", state))

    airflow.until("the run that fails", lambda: ended("failed"), every=0.2)
    kept = queue.state()["states"]["leased"]
    world.cloudflare.advance(RUN_SECONDS + 1)
    airflow.until("the run that succeeds", lambda: ended("success"), every=0.2)
    events = airflow.events("task")
    verdict = Verdict({"runs": "failed, then success", "deliveries": [event.attempts for event in events]})
    verdict.expect((airflow.signs / "failed once").exists(), "it was not the task that failed")
    verdict.expect(kept == 1, "the message was not leased while its run had failed")
    verdict.expect([event.attempts for event in events] == [1, 2], "it was not delivered just twice")
    check_queue(verdict, queue.name, queue.totals, 1)
    return verdict


def stranded(world: World) -> Verdict:
    """Let Airflow leave a stored event without a run, with no event after it, until the lease ends."""
    if world.asset_manager:
        return Verdict({"left out": "Airflow's asset manager leaves no event behind"})
    airflow, queue = world.airflow, world.cloudflare.create_queue("stranded")
    arguments = watcher(queue, settle="task", visibility_timeout=RUN_SECONDS, run_seconds=1)
    airflow.write_dags([{"dag_id": "stranded", "watchers": {"stranded": arguments}, "task": "settle"}])
    triggerer = airflow.start_triggerer("stranded")
    airflow.until_watching(triggerer, queue.name)
    airflow.until_serving()
    messages = numbered(2)
    with airflow.stopped("scheduler"):
        for stored, message in enumerate(messages):
            queue.send([message])
            airflow.until("its event", lambda stored=stored: len(airflow.events("stranded")) > stored)
        triggerer.kill()  # before it can make an event without messages

    def without_run() -> list[str]:
        consumed = {key_of(message.body) for message in airflow.consumed("stranded")}
        return [str(message["n"]) for message in messages if key_of(message) not in consumed]

    airflow.until("the ack of the first", lambda: queue.totals["acked"], every=0.2)
    airflow.until_watching(airflow.start_triggerer("stranded-again"), queue.name)
    airflow.pass_time(AWAY_SECONDS)  # the scheduler looks for runs once a second
    before, leased = without_run(), queue.state()["states"]["leased"]
    world.cloudflare.advance(RUN_SECONDS + 1)
    verdict = world.judge({"stranded": messages})
    world.wait_until_acked(queue)
    deliveries = [event.attempts for event in airflow.events("stranded")]
    verdict.facts |= {"without a run until the lease ended": before, "afterwards": without_run()}
    verdict.facts["deliveries"] = deliveries
    verdict.expect(before == ["1"] and leased == 1, f"without a run were {before}, and {leased} messages were leased")
    verdict.expect(deliveries == [1, 1, 2], f"the deliveries were {deliveries}")
    check_queue(verdict, queue.name, queue.totals, len(messages))
    return verdict
