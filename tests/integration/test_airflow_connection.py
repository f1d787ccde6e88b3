"""The connection as a user of Airflow meets it: the command line and the form, each in a real Airflow's own process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from airflow_provider_cfqueues.emulator import Emulator
from airflow_provider_cfqueues.provider_info import get_provider_info

AIRFLOW = tuple(int(part) for part in metadata.version("apache-airflow").split(".")[:2])
ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = Path(__file__).parent / "airflow_scripts"
WARNING = re.compile(r"\bwarn|\berror\b|\w+Warning\b", re.IGNORECASE)
OURS = re.compile("cfqueues|cloudflare", re.IGNORECASE)
WRONG_TOKEN = "wr0ng-t0ken-0123456789"
TABLE = get_provider_info()["connection-types"][0]

HAS_FAB = find_spec("flask_appbuilder") is not None
needs_form = pytest.mark.skipif(
    AIRFLOW == (3, 0) and not HAS_FAB,
    reason="without flask_appbuilder, Airflow 3.0 serves no provider's form",
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What all these commands said: each costs some seconds, so they run side by side."""
    home = tmp_path_factory.mktemp("airflow")
    with Emulator() as cf:
        common = {"conn_type": "cloudflare", "host": cf.base_url, "extra": {"account_id": cf.account_id}}
        key = {"account_id": cf.account_id, "api_key": cf.api_token}
        connections = {
            "token": {**common, "password": cf.api_token},
            "key": {**common, "login": "me@example.com", "extra": key},
            "wrong token": {**common, "password": WRONG_TOKEN},
        }
        test = ["-m", "airflow", "connections", "test", "cloudflare_default"]
        form = "form_of_airflow_2.py" if AIRFLOW < (3, 0) else "form_of_airflow_3.py"
        commands = {name: (test, conn) for name, conn in connections.items()} | {
            "providers": ([str(SCRIPTS / "list_providers.py")], None),
            "form": ([str(SCRIPTS / form)], None),
        }

        def run(name: str) -> subprocess.CompletedProcess[str]:
            arguments, conn = commands[name]
            folder = home / name.replace(" ", "-")
            folder.mkdir()
            env = {
                **os.environ,
                "AIRFLOW_HOME": str(folder),
                "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
                "COLUMNS": "1000",  # nothing is wrapped
                "PYTHONWARNINGS": "default",
            }
            if conn:
                env["AIRFLOW_CONN_CLOUDFLARE_DEFAULT"] = json.dumps(conn)
            return subprocess.run(
                [sys.executable, *arguments], env=env, capture_output=True, text=True, check=False, timeout=120
            )

        with ThreadPoolExecutor(max_workers=3) as pool:
            done = dict(zip(commands, pool.map(run, commands), strict=True))
        yield done, cf.api_token


@pytest.fixture
def outcome(outcomes):
    """The end of one command, looked at for what must never be there."""
    done, token = outcomes

    def outcome(name):
        output = (done[name].stdout + done[name].stderr).replace(str(ROOT), "")  # a path may look like our name
        assert token not in output
        assert WRONG_TOKEN not in output
        # Airflow 3 logs warnings to stdout.
        assert [line for line in output.splitlines() if WARNING.search(line) and OURS.search(line)] == []
        return done[name]

    return outcome


def result(ended):
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("scheme", ["token", "key"])
def test_the_command_line_says_that_a_good_connection_works(outcome, scheme):
    ended = outcome(scheme)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Connection success!" in ended.stdout


def test_the_command_line_says_what_is_wrong_with_a_token(outcome):
    ended = outcome("wrong token")
    assert ended.returncode == (1 if AIRFLOW >= (3, 3) else 0)  # older ones only say so
    assert "Connection failed!" in ended.stdout
    assert "Could not verify the API token: Invalid API Token (HTTP 401" in ended.stdout
    assert "Check the API token" in ended.stdout


def test_airflow_lists_our_connection_type_without_a_warning(outcome):
    listed = result(outcome("providers"))
    (hook,) = (row for row in listed["hooks"] if row["connection_type"] == "cloudflare")
    assert hook == {
        "connection_type": "cloudflare",
        "class": "airflow_provider_cfqueues.hooks.queues.CloudflareQueuesHook",
        "conn_id_attribute_name": "cloudflare_conn_id",
        "package_name": "airflow-provider-cfqueues",
        "hook_name": "Cloudflare",
    }


@pytest.mark.skipif(
    (3, 0) <= AIRFLOW < (3, 2) and not HAS_FAB,
    reason="without flask_appbuilder, the command line of Airflow 3.0 and 3.1 lists no provider's form",
)
def test_airflow_lists_our_form_without_a_warning(outcome):
    listed = result(outcome("providers"))
    assert {"field_behaviours": "cloudflare"} in listed["behaviours"]
    widgets = {row["connection_parameter_name"]: row["field_type"] for row in listed["widgets"]}
    ours = [widgets[f"extra__cloudflare__{name}"] for name in ("account_id", "api_key")]
    # From the table where Airflow reads it, from the hook's methods before.
    assert ours == (["string", ["string", "null"]] if AIRFLOW >= (3, 2) else ["StringField", "PasswordField"])


def test_airflow_lists_our_notifier_and_link_without_a_warning(outcome):
    listed = result(outcome("providers"))
    notifier = "airflow_provider_cfqueues.notifications.queues.CloudflareQueuesNotifier"
    assert {"notification_class_name": notifier} in listed["notifications"]
    link = "airflow_provider_cfqueues.links.queues.CloudflareQueueLink"
    assert {"extra_link_class_name": link} in listed["links"]


@needs_form
def test_the_form_shows_our_labels_and_hides_no_field(outcome):
    form = result(outcome("form"))
    behaviour = TABLE["ui-field-behaviour"]
    assert form["name"] == "Cloudflare"
    assert form["labels"] == behaviour["relabeling"]
    assert form["placeholders"] == behaviour["placeholders"]
    assert form["hidden"] == []  # 'port' least of all: without one, Airflow 3.3's test fails


@needs_form
def test_the_form_asks_for_the_account_openly_and_for_the_key_as_for_a_password(outcome):
    extra = result(outcome("form"))["extra"]
    assert {name: field["label"] for name, field in extra.items()} == {
        name: field["label"] for name, field in TABLE["conn-fields"].items()
    }
    assert {name: field["help"] for name, field in extra.items()} == {
        name: field["description"] for name, field in TABLE["conn-fields"].items()
    }
    assert [extra[name]["secret"] for name in ("account_id", "api_key")] == [False, True]
    if AIRFLOW >= (3, 2):  # only the table can say so
        assert [extra[name]["required"] for name in ("account_id", "api_key")] == [True, False]
