"""A proxy that changes what an endpoint is asked and what it answers: a variant of the API that no switch has."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Lie:
    """What the proxy changes; as it stands, nothing. ``action`` is the method and the path after the queue's id."""

    delay_seconds = 0.0

    def ask(self, action: str, body: Any) -> Any:
        return body

    def answer(self, action: str, status: int, body: dict[str, Any], queue: str) -> tuple[int, dict[str, Any]]:
        return status, body


@contextmanager
def proxy(base_url: str, lie: Lie) -> Iterator[str]:
    """Serve another base URL for an endpoint."""
    target = urlsplit(base_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer is 40 ms late

        def _serve(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            _, _, after = self.path.partition("/queues")
            queue, _, rest = after.lstrip("/").partition("/")
            action = f"{self.command} {'queues' if not queue or '?' in after else rest or 'queue'}"
            if "/queues" not in self.path:
                action = f"{self.command} {self.path}"
            time.sleep(lie.delay_seconds)
            if data and "/_emulator/" not in self.path:
                with suppress(ValueError):
                    asked = json.loads(data)
                    data = json.dumps(lie.ask(action, asked) if isinstance(asked, dict) else asked).encode()
            connection = http.client.HTTPConnection(target.hostname or "", target.port)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
            connection.request(self.command, self.path, data or None, headers)
            response = connection.getresponse()
            status, body = response.status, json.loads(response.read())
            connection.close()
            if "/_emulator/" not in self.path:
                status, body = lie.answer(action, status, body, queue)
            sent = json.dumps(body).encode()
            self.send_response(status)
            for name, value in response.getheaders():
                if name.lower() not in ("content-length", "date"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{target.path}"
        finally:
            server.shutdown()
            thread.join()
