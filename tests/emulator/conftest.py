from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_provider_cfqueues.emulator import Clock, Emulator
from airflow_provider_cfqueues.emulator.broker import Broker
from airflow_provider_cfqueues.emulator.model import ConsumerSettings, Message, Outgoing, Retry, Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
MIDNIGHT = 20_000 * 86_400


class Api:
    """The HTTP API as curl would see it: one connection, JSON in and out."""

    def __init__(self, cf: Emulator, http: httpx.Client) -> None:
        self.http = http
        self.cf = cf
        self.headers = {"Authorization": f"Bearer {cf.api_token}"}
        self.account = f"/accounts/{cf.account_id}"
        self.queue = f"{self.account}/queues/{cf.queues['my-queue']}"

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.http.request(method, self.cf.base_url + path, json=body, headers=self.headers)

    def post(self, action: str, body: Any) -> httpx.Response:
        return self.call("POST", f"{self.queue}/{action}", body)

    def result(self, method: str, path: str, body: Any = None) -> Any:
        response = self.call(method, path, body)
        assert response.status_code == 200, response.text
        return response.json()["result"]

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, int, str]:
        response = self.call(method, path, body)
        envelope = response.json()
        assert envelope["success"] is False
        assert envelope["result"] is None
        error = envelope["errors"][0]
        return response.status_code, error["code"], error["message"]

    def push(self, *bodies: Any) -> None:
        for body in bodies:
            content_type = "text" if isinstance(body, str) else "json"
            message = {"body": body, "content_type": content_type}
            self.result("POST", f"{self.queue}/messages", message)

    def pull(self, **request: Any) -> list[dict[str, Any]]:
        return self.result("POST", f"{self.queue}/messages/pull", request)["messages"]

    def ack(self, acks: Sequence[str] = (), retries: Sequence[Any] = ()) -> dict[str, Any]:
        body = {
            "acks": [{"lease_id": lease} for lease in acks],
            "retries": [{"lease_id": item} if isinstance(item, str) else item for item in retries],
        }
        return self.result("POST", f"{self.queue}/messages/ack", body)


@pytest.fixture
def cf(cloudflare_queues: Emulator) -> Emulator:
    return cloudflare_queues


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """One connection pool for all tests, without credentials."""
    with httpx.Client() as client:
        yield client


@pytest.fixture
def api(cf: Emulator, http: httpx.Client) -> Api:
    return Api(cf, http)


@pytest.fixture
def make_api(http: httpx.Client) -> Iterator[Callable[..., Api]]:
    """An emulator with options of its own, in virtual time."""
    with ExitStack() as stack:

        def start(**options: Any) -> Api:
            return Api(stack.enter_context(Emulator(clock=Clock(lambda: MIDNIGHT), **options)), http)

        yield start


class Model:
    """A broker in virtual time with one queue."""

    def __init__(self, assume: dict[str, str] | None = None) -> None:
        self.clock = Clock(lambda: 1_800_000_000)
        self.broker = Broker(clock=self.clock, random=random.Random(7), assume=assume)
        self.queue = self.add_queue("work", dead_letter_queue="dead", max_retries=2)

    def add_queue(self, name: str, *, dead_letter_queue: str = "", **settings: Any) -> str:
        queue = self.broker.queues.create(name)
        self.broker.queues.add_consumer(
            queue.id, dead_letter_queue=dead_letter_queue, settings=ConsumerSettings(**settings)
        )
        return queue.id

    def send(self, *bodies: str, queue: str | None = None, **options: Any) -> None:
        messages = [Outgoing(body=body.encode(), **options) for body in bodies]
        self.broker.send(queue or self.queue, messages)

    def pull(self, queue: str | None = None, **options: Any) -> list[Message]:
        return self.broker.pull(queue or self.queue, **{"batch_size": 100, **options})

    def one(self, **options: Any) -> Message:
        [message] = self.pull(**options)
        return message

    def ack(self, *leases: str) -> Settlement:
        return self.broker.settle(self.queue, acks=leases)

    def retry(self, lease: str, delay_seconds: float | None = None) -> Settlement:
        return self.broker.settle(self.queue, retries=[Retry(lease, delay_seconds)])

    def close(self) -> None:
        self.broker.close()

    def totals(self, name: str = "work") -> dict[str, int]:
        queue = self.broker.queues.find(name)
        assert queue
        return {key: value for key, value in self.broker.report(queue.id).totals.items() if value}


@pytest.fixture
def make_model() -> Iterator[Callable[..., Model]]:
    with ExitStack() as stack:
        yield lambda assume=None: stack.enter_context(closing(Model(assume)))


@pytest.fixture
def model(make_model: Callable[..., Model]) -> Model:
    return make_model()


class Running:
    """An emulator in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self._errors = errors
        self.first_line = process.stdout.readline()

    def end(self, number: int | None = None) -> tuple[int, str, str]:
        """Send a signal, if any; return exit code, the rest of stdout, and stderr."""
        if number is not None:
            self.process.send_signal(number)
        rest = self.process.stdout.read()
        return self.process.wait(timeout=20), rest, self._errors.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def run(*arguments: str) -> Running:
            errors = tmp_path / f"stderr-{len(list(tmp_path.iterdir()))}"
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "airflow_provider_cfqueues.emulator", *arguments],
                    stdout=subprocess.PIPE,
                    stderr=stack.enter_context(errors.open("w")),
                    text=True,
                    env={**os.environ, "PYTHONWARNINGS": "error"},
                )
            )
            stack.callback(process.kill)
            return Running(process, errors)

        yield run


@pytest.fixture(scope="session")
def interpreter() -> Callable[[str], str]:
    """Return a Python of a version, or skip the test."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))  # whose shims are on PATH, and may not run

    def find(version: str) -> str:
        for candidate in (shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")):
            if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
                return str(candidate)
        return pytest.skip(f"this machine has no Python {version}")

    return find


@pytest.fixture(scope="session")
def one_file(interpreter: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the emulator as one file, on the oldest Python that it is for."""
    file = tmp_path_factory.mktemp("file") / "cfqueues-emulator.pyz"
    command = [ROOT / "scripts" / "emulator_file", "--python", "3.10", file]
    subprocess.run(command, env={**os.environ, "PYTHON": interpreter("3.10")}, check=True)
    return file
