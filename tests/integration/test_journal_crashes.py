"""The crash points of the journal: a real task of Airflow 3.3 is killed, and tried again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from airflow_provider_cfqueues.emulator import Emulator

pytestmark = [
    pytest.mark.filterwarnings("default"),  # what Airflow's own modules warn of
    pytest.mark.filterwarnings(r"error:::airflow_provider_cfqueues\..*"),
]

SCRIPTS = Path(__file__).parent / "airflow_scripts"


@pytest.fixture(scope="module")
def api_server():
    """Airflow's API for task processes, over HTTP: the same as tests of whole DAGs use in process, dear to make."""
    pytest.importorskip("airflow.models.task_state_store", reason="the journal needs Airflow 3.3")
    from airflow.sdk.execution_time.supervisor import in_process_api_server
    from airflow.utils.db import initdb

    initdb()
    in_process = in_process_api_server()
    assert in_process.transport  # has started what the app needs
    server = uvicorn.Server(uvicorn.Config(in_process.app, port=0, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def tries(api_server):
    """What two tries of a task left, the first of which was killed with -9."""
    with Emulator(queues=["orders"]) as cf:
        for body in ("done", "written too late", "unhandled"):
            cf.send(cf.queues["orders"], body, content_type="text")
        connection = {"conn_type": "cloudflare", "host": cf.base_url, "password": cf.api_token}
        connection["extra"] = {"account_id": cf.account_id}
        environment = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(SCRIPTS),
            "AIRFLOW_CONN_CLOUDFLARE_DEFAULT": json.dumps(connection),
        }
        clock = f"{cf.base_url.removesuffix('/client/v4')}/_emulator/clock"
        command = [sys.executable, str(SCRIPTS / "journal_tries.py"), api_server, clock]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
        logs = "".join(path.read_text() for path in Path(os.environ["AIRFLOW_HOME"]).glob("try-*.log"))
        assert done.returncode == 0, done.stderr + logs
        (queue,) = cf.state()["queues"]
        return {**json.loads(done.stdout.splitlines()[-1]), "queue": queue, "logs": logs}


def test_a_worker_killed_after_its_journal_was_written_has_its_message_acked_and_not_handled_again(tries):
    assert tries["state"] == "success", tries["logs"]
    assert tries["handled"].count("done") == 1
    assert tries["report"]["acked_from_journal"] == 1
    assert tries["queue"]["totals"]["acked"] == 3
    assert tries["journal"] is None


def test_a_worker_killed_before_its_journal_is_written_has_its_message_handled_again(tries):
    assert tries["handled"].count("written too late") == 2
    assert tries["handled"].count("unhandled") == 1
    assert tries["report"]["acked"] == 2
