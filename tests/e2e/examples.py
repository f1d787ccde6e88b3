"""The scenario of ``scripts/e2e`` that runs the examples of watchers as they stand in ``example_dags``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2e.world import World
from harness.audit import Verdict

EXAMPLES = Path(__file__).parents[2] / "example_dags"
MESSAGES: dict[str, list[dict[str, Any]]] = {
    "orders": [{"quantity": 1}, {"quantity": 2}],
    "refunds": [{"amount": 5}],
    "shop": [{"type": "signup"}, {"type": "purchase"}, {"type": "other"}],
}
"""By queue."""
DAGS = [f"cloudflare_queues_watch_{name}" for name in ("event", "task", "signup", "purchase")]


def examples(world: World) -> Verdict:
    """Let messages start the examples; each run succeeds, each message is acked, one goes to the dead-letter queue."""
    airflow = world.airflow
    queues = {name: world.cloudflare.create_queue(name) for name in MESSAGES}
    for name, queue in queues.items():
        queue.send(MESSAGES[name])
    for path in sorted(EXAMPLES.glob("cloudflare_queues_watch_*.py")):
        airflow.copy_dag(path)
    airflow.until_serving()
    triggerer = airflow.start_triggerer("examples")
    for name, watchers in (("orders", 1), ("refunds", 1), ("shop", 2)):
        airflow.until_watching(triggerer, name, watchers)

    def runs() -> dict[str, str]:
        return dict(airflow.query("SELECT dag_id, state FROM dag_run WHERE dag_id LIKE 'cloudflare_queues_watch_%'"))

    def have_ended() -> bool:
        return all(runs().get(dag) in ("success", "failed") for dag in DAGS)

    try:
        airflow.until("a run of each example", have_ended, every=0.5)
    except TimeoutError as error:
        raise TimeoutError(f"{error}; so far: {runs()}") from None
    for queue in queues.values():
        world.wait_until_acked(queue)
    dead = world.cloudflare.queue("shop-failed").backlog
    succeeded = [dag for dag, state in runs().items() if state == "success"]
    verdict = Verdict({"runs of": len(succeeded), "dead-lettered": dead})
    verdict.expect(dead == 1, f"{dead} messages are in shop-failed, not 1")
    verdict.expect(len(succeeded) == len(DAGS), f"not all runs succeeded: {runs()}")
    return verdict
