"""
Run event-driven DAGs in a real Airflow against an emulated Cloudflare, and kill Airflow at the worst moments.

Called by ``scripts/e2e``, which sets up the environment. All of it runs on this machine, in a folder of its own, and
ends with the script. At the end of each scenario, three things are compared: what was sent, what DAG runs consumed
(table ``dagrun_asset_event``), and what the emulator counted. The exit code is 0 only if no promise is broken.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from airflow_provider_cfqueues._compat import HAS_SHARED_STREAMS
from e2e.bursts import BURSTS
from e2e.examples import examples
from e2e.kills import kills
from e2e.private_airflow import Airflow
from e2e.runs import runs
from e2e.scenarios import burst, latency, logs, many
from e2e.troubles import api, database, stranded, task
from e2e.two import two
from e2e.world import World
from harness.audit import Verdict, show
from harness.cloudflare import cloudflare
from harness.local_airflow import IS_AIRFLOW_2

SCENARIOS = {
    "latency": latency,
    "burst": burst,
    "many": many,
    **BURSTS,
    "kill": kills,
    "database": database,
    "api": api,
    "task": task,
    "stranded": stranded,
    "two": two,
    "examples": examples,
    "runs": runs,  # after all others that call the API: its faults stay
    "logs": logs,  # the last: it reads what the others left
}
SHORT = ("latency", "burst", "bursts", "kill", "examples", "runs", "logs")
ASSET_MANAGER = "airflow_provider_cfqueues.assets.manager.PromptAssetManager"


def run(names: list[str], given: argparse.Namespace, seed: int) -> dict[str, Verdict]:
    """
    Run scenarios.

    :param names: which.
    :param given: the options of the command line.
    :param seed: of the dice.
    """
    verdicts = {}
    rounds = given.rounds or (1 if given.short else 12)
    settings = {"AIRFLOW__CORE__ASSET_MANAGER_CLASS": ASSET_MANAGER} if given.asset_manager else {}
    with tempfile.TemporaryDirectory(prefix="cfqueues-e2e-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with cloudflare(folder) as emulated:
            airflow = Airflow(folder, json.dumps(emulated.connection), on_postgres=given.postgres, **settings)
            world = World(
                airflow,
                emulated,
                given.short,
                rounds,
                given.messages,
                random.Random(seed),
                asset_manager=given.asset_manager,
                names_dags=not given.no_dag_ids,
            )
            try:
                airflow.start()
                for scenario in names:
                    verdicts[scenario] = run_one(scenario, world)
            finally:
                airflow.stop()
                if given.keep is not None:
                    shutil.copytree(folder, given.keep, dirs_exist_ok=True)
    return verdicts


def run_one(name: str, world: World) -> Verdict:
    """Run a scenario; whatever it fails with is a problem."""
    print(f"{name} ...", flush=True)
    began = time.monotonic()
    restarts = world.airflow.restarts.copy()
    try:
        verdict = SCENARIOS[name](world)
    except Exception as error:  # noqa: BLE001 - the other scenarios shall run
        traceback.print_exc()
        verdict = Verdict(problems=[f"{type(error).__name__}: {error}"])
    finally:
        world.airflow.end_triggerers()
    verdict.facts |= {f"restarts of {what}": count for what, count in (world.airflow.restarts - restarts).items()}
    verdict.facts["seconds"] = round(time.monotonic() - began)
    print(f"  {verdict.facts}", *(f"WRONG  {problem}" for problem in verdict.problems), sep="\n  ", flush=True)
    return verdict


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/e2e", description=__doc__.strip().splitlines()[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="few samples, and only what CI runs")
    parser.add_argument("--rounds", type=int, help="kills at each step (12; with --short 1)")
    parser.add_argument("--seed", type=int, help="of the moments (drawn and printed)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy logs and database there")
    parser.add_argument("--airflow", metavar="X.Y", help="another Airflow; before 3.3 a DAG settles; 2.11: only runs")
    parser.add_argument("--messages", type=int, default=1_000, help="that become runs (%(default)s; with --short 40)")
    parser.add_argument("--postgres", action="store_true", help="the metadata database is a PostgreSQL, not SQLite")
    parser.add_argument("--asset-manager", action="store_true", help="Airflow runs with the provider's asset manager")
    parser.add_argument("--no-dag-ids", action="store_true", help="watchers do not know their DAGs; one more kill step")
    given = parser.parse_args()
    if unknown := sorted(set(given.scenarios) - set(SCENARIOS)):
        parser.error(f"no such scenario: {', '.join(unknown)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    print(f"Seed {seed}", flush=True)
    chosen = given.scenarios or default_scenarios(is_short=given.short)
    verdicts = run([name for name in SCENARIOS if name in chosen], given, seed)
    return show("Event-driven scheduling in a real Airflow", verdicts)


def default_scenarios(*, is_short: bool) -> list[str]:
    """Return what is run where nothing is named; before Airflow 3.3 a DAG settles, never the trigger."""
    if not HAS_SHARED_STREAMS:
        return ["runs"] if IS_AIRFLOW_2 else ["task", "stranded", *BURSTS, "runs", "logs"]
    return list(SHORT if is_short else SCENARIOS)


if __name__ == "__main__":
    sys.exit(main())
