"""The scenarios of ``scripts/e2e`` in which nobody is killed step by step."""

from __future__ import annotations

import statistics
import time
from typing import Any

from e2e.world import AGAIN, World
from harness.audit import Verdict, check_queue
from harness.cloudflare import Queue

POLL_INTERVAL = 0.5
LATENCY_SECONDS = {0.5: 1.5, 0.25: 1.2}
"""
From a lone message to its run, by the interval of the polls: one that may be usual, and the shortest that the API's
limit of 1,200 requests in five minutes allows. Airflow's own share is about 1 s: the triggerer stores events once a
second, and the scheduler looks for them once a second.
"""
LEASE_SECONDS = 160
"""Above ``SHORT_ACK_TIMEOUT`` by what settling takes."""
SECRET_BODY = "e2e-body-that-no-log-may-show"


def watcher(queue: Queue, **arguments: Any) -> dict[str, Any]:
    """Return the arguments of a trigger that polls steadily."""
    return {
        "queue_name": queue.name,
        "poll_interval": POLL_INTERVAL,
        "max_poll_interval": POLL_INTERVAL,
        "unmatched": "retry",  # its queues have no dead-letter queue
        **arguments,
    }


def numbered(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Return messages that can be told apart."""
    return [{"n": n, "text": SECRET_BODY} for n in range(start, start + count)]


def latency(world: World) -> Verdict:
    """Measure from the sending of a lone message to the DAG run, for watchers that poll often and very often."""
    airflow, verdict = world.airflow, Verdict()
    intervals = list(LATENCY_SECONDS)[:1] if world.is_short else list(LATENCY_SECONDS)
    queues = {interval: world.cloudflare.create_queue(f"latency-{1_000 * interval:g}") for interval in intervals}
    watchers = {
        queue.name: watcher(queue, poll_interval=interval, max_poll_interval=interval)
        for interval, queue in queues.items()
    }
    airflow.write_dags([{"dag_id": name, "watchers": {name: given}} for name, given in watchers.items()])
    triggerer = airflow.start_triggerer("latency")
    for name in watchers:
        airflow.until_watching(triggerer, name)
    for interval, queue in queues.items():
        samples = [_time_of_a_run(world, queue, n) for n in range(1 + (5 if world.is_short else 30))]
        del samples[0]  # the DAG itself may not have been there yet
        stored, began = (statistics.median(times) for times in zip(*samples, strict=True))
        verdict.facts[f"median of {len(samples)}, s, polled each {interval:g} s"] = round(began, 2)
        verdict.facts[f"... until its event is stored ({interval:g} s)"] = round(stored, 2)
        leniency = 2 if world.is_short else 1  # few samples, on a machine that does other work too
        longest = leniency * LATENCY_SECONDS[interval]
        verdict.expect(began <= longest, f"polled each {interval:g} s, the median is {began:.2f} s, not {longest:g} s")
    return verdict


def _time_of_a_run(world: World, queue: Queue, n: int) -> tuple[float, float]:
    """Send a lone message, and return after how many seconds its event is stored, and it has a run."""
    time.sleep(world.dice.uniform(4, 5))  # one that follows an event waits for the run of that
    began = time.monotonic()
    queue.send(numbered(1, n))
    world.airflow.until("an event", lambda: len(world.airflow.events(queue.name)) > n)
    stored = time.monotonic()
    world.airflow.until("a run", lambda: _runs(world, queue.name) > n)
    return stored - began, time.monotonic() - began


def _runs(world: World, dag_id: str) -> int:
    return int(world.airflow.query("SELECT count(*) FROM dag_run WHERE dag_id = ?", dag_id)[0][0])


def burst(world: World) -> Verdict:
    """Send many messages at once to three watchers of one queue: each message concerns two of them."""
    airflow, queue = world.airflow, world.cloudflare.create_queue("burst")
    matches = {"burst-all": None, "burst-even": "function:e2e.dags.even", "burst-odd": "function:e2e.dags.odd"}
    airflow.write_dags(
        [
            {"dag_id": name, "watchers": {name: watcher(queue, match=match, **world.trigger_arguments([name]))}}
            for name, match in matches.items()
        ]
    )
    triggerer = airflow.start_triggerer("burst")
    airflow.until_watching(triggerer, queue.name, len(matches))
    messages = numbered(200 if world.is_short else 1_000)
    began = time.monotonic()
    queue.send(messages)
    world.wait_until_acked(queue)
    seconds = time.monotonic() - began
    time.sleep(3)  # what came twice would come now
    expected = {"burst-all": messages, "burst-even": messages[::2], "burst-odd": messages[1::2]}
    verdict = world.judge(expected)
    verdict.facts |= {
        "messages": len(messages),
        "pulls that gave messages": triggerer.count(rf"Pulled \d+ messages? of queue {queue.name}"),
        "POST ack": queue.calls("ack"),
        "all acked after, s": round(seconds, 1),
    }
    check_queue(verdict, queue.name, queue.totals, len(messages))
    verdict.expect(verdict.facts[AGAIN] == 0, "messages came twice")
    return verdict


def many(world: World) -> Verdict:
    """Watch one queue by many watchers in several DAGs, each of which wants messages of its own."""
    airflow, queue = world.airflow, world.cloudflare.create_queue("many")
    dag_ids, per_dag, waves = [f"many-{dag}" for dag in range(10)], 20, range(2)
    expected, specs = {}, []
    for dag_id in dag_ids:
        wanted = {f"{dag_id}-{n}": [f"{dag_id}-{n}, wave {wave}" for wave in waves] for n in range(per_dag)}
        told = world.trigger_arguments([dag_id])
        watchers = {
            name: watcher(queue, match=[f"literal:{body}" for body in bodies], **told)
            for name, bodies in wanted.items()
        }
        specs.append({"dag_id": dag_id, "watchers": watchers})
        expected |= wanted
    airflow.write_dags(specs)
    began = time.monotonic()
    airflow.until_watching(airflow.start_triggerer("many"), queue.name, len(expected))
    started = time.monotonic() - began
    pulls, seconds = queue.calls("pull"), 20
    time.sleep(seconds)
    pulls = queue.calls("pull") - pulls
    for wave in waves:
        queue.send([bodies[wave] for bodies in expected.values()])
        world.wait_until_acked(queue)
    time.sleep(3)
    by_dag = {spec["dag_id"]: [body for name in spec["watchers"] for body in expected[name]] for spec in specs}
    verdict = world.judge(by_dag, expected)
    events = airflow.events(list(expected))
    verdict.none_of("messages in an event of another", [e.body for e in events if e.body not in expected[e.asset]])
    messages = len(waves) * len(expected)
    verdict.facts |= {
        "watchers": len(expected),
        "watching after, s": round(started, 1),
        f"pulls in {seconds} s": pulls,
        "messages": messages,
    }
    check_queue(verdict, queue.name, queue.totals, messages)
    verdict.expect(pulls <= seconds / POLL_INTERVAL + 2, f"{pulls} pulls in {seconds} s are more than one loop makes")
    verdict.expect(verdict.facts[AGAIN] == 0, "messages came twice")
    return verdict


def logs(world: World) -> Verdict:
    """Look for bodies in the logs of triggerers, and for the token in all logs."""
    texts = [triggerer.log.read_text(errors="replace") for triggerer in world.airflow.triggerers]
    all_logs = [path for path in world.airflow.folder.rglob("*.log") if path.is_file()]
    with_token = [path.name for path in all_logs if world.cloudflare.api_token in path.read_text(errors="replace")]
    naming = sum(text.count("QueueMessageEvent<") for text in texts)
    verdict = Verdict({"logs": len(all_logs), "of triggerers": len(texts), "lines that name messages": naming})
    verdict.expect(not with_token, f"the API token is in {with_token}")
    verdict.expect(not any(SECRET_BODY in text for text in texts), "bodies are in a log of a triggerer")
    verdict.expect(naming > 0, "no line names a message: there was nothing to look at")
    return verdict
