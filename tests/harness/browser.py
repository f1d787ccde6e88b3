"""
The headless Chromium that looks at Airflow's pages.

It runs in an environment of its own, without Airflow; see ``ensure_browser`` in ``scripts/lib.sh``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import BrowserContext, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]


@contextmanager
def browser() -> Iterator[BrowserContext]:
    """Start a browser with an empty profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=os.environ["CHROMIUM"],
            args=FLAGS,
            headless=True,
            color_scheme="light",
            device_scale_factor=1.5,
            locale="en-GB",
            timezone_id="UTC",
        )
        context.set_default_timeout(120_000)
        yield context
        context.close()
