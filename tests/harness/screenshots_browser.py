"""
Photograph what ``screenshots.py`` has started: its facts come as JSON on stdin.

It runs in an environment of its own, without Airflow.
"""

from __future__ import annotations

import html
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from harness.browser import browser

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

MAX_BYTES = 150_000
TERMINAL = """
<style>
  body {{ margin: 0; background: #1b1f27; color: #d5dae3; font: 14px/1.45 "DejaVu Sans Mono", monospace; }}
  pre {{ margin: 0; padding: 18px 22px; white-space: pre-wrap; overflow-wrap: anywhere; }}
  b {{ color: #fbad41; }}
</style>
<pre>{text}</pre>
"""


def fill_in_connection(page: Page, scene: dict[str, Any]) -> Locator:
    """Fill in the form for a new connection, as the page for connections shows it; nothing is saved."""
    page.goto(f"{scene['airflow']}/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_role("textbox", name="Connection ID").fill("cloudflare_default")
    form.get_by_role("combobox").first.click()
    page.get_by_role("option", name="Cloudflare", exact=True).click()
    form.get_by_text("Extra Fields", exact=True).click()
    form.locator('[name="element_account_id"]').fill("0123456789abcdef0123456789abcdef")
    return form


def fill_in_token(page: Page, scene: dict[str, Any]) -> Locator:
    """Show the other half of the form, which folds up while the extra fields are shown."""
    form = fill_in_connection(page, scene)
    form.get_by_text("Standard Fields", exact=True).click()
    form.locator('[name="password"]').fill("0123456789abcdef0123456789abcdef01234567")
    return form


def open_graph(page: Page, scene: dict[str, Any]) -> Page | Locator:
    """Open the graph of a finished run."""
    page.goto(scene["airflow"] + scene["settled"])
    page.get_by_label("Show Graph").click()
    page.get_by_label("Collapse Details Panel").click()
    page.locator(".react-flow__node").filter(has_text="report").wait_for()
    page.wait_for_timeout(1500)  # until the panel is gone
    page.locator(".react-flow__controls-fitview").click()
    return page


def open_xcom(page: Page, scene: dict[str, Any]) -> Page | Locator:
    """Open what the ack task left in XCom."""
    page.goto(f"{scene['airflow']}{scene['settled']}/tasks/ack/xcom")
    page.get_by_label("Expand all extra JSON").click()
    page.locator(".view-line").nth(4).wait_for()
    return page


def open_log(page: Page, scene: dict[str, Any]) -> Page | Locator:
    """Open the log of a task that processed a queue, where its table is."""
    page.goto(f"{scene['airflow']}{scene['processed']}/tasks/ship")
    page.get_by_text("What became of the messages").first.scroll_into_view_if_needed()
    return page


def show_terminal(page: Page, commands: list[dict[str, str]]) -> Locator:
    """Show commands and what they wrote."""
    text = "\n\n".join(
        f"<b>$ {html.escape(each['command'])}</b>\n{html.escape(each['output'].strip())}" for each in commands
    )
    page.set_content(TERMINAL.format(text=text))
    return page.locator("pre")


def open_emulator(page: Page, scene: dict[str, Any]) -> Page | Locator:
    """Open the emulator's own page, once it has read what there is."""
    page.goto(scene["emulator page"])
    page.locator("section").first.wait_for()
    return page


# The graph comes last: Airflow remembers which of its views was chosen, and goes on with it.
PICTURES: dict[str, tuple[tuple[int, int], Callable[[Page, dict[str, Any]], Page | Locator]]] = {
    "connection-form": ((1000, 1400), fill_in_token),
    "connection-extra": ((1000, 1000), fill_in_connection),
    "xcom": ((1280, 800), open_xcom),
    "processing-log": ((1020, 680), open_log),
    "emulator": ((780, 600), lambda page, scene: show_terminal(page, scene["emulator"])),
    "emulator-page": ((1100, 790), open_emulator),
    "command-line": ((900, 400), lambda page, scene: show_terminal(page, scene["command line"])),
    "dag-graph": ((1280, 540), open_graph),
}


def save(png: bytes, path: Path) -> None:
    """Save a picture in as few colours as it needs, and no larger than a page should load."""
    with Image.open(io.BytesIO(png)) as picture:
        small = picture.convert("RGB").quantize(colors=128, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.name}: {small.width} x {small.height}, {size / 1000:.0f} KB", flush=True)
    if size > MAX_BYTES:
        sys.exit(f"{path.name} is larger than {MAX_BYTES // 1000} KB")


def main() -> None:
    """Make each picture in a page of its own."""
    scene, folder = json.load(sys.stdin), Path(sys.argv[1])
    chosen = sys.argv[2:] or PICTURES
    with browser() as context:
        for name in chosen:
            (width, height), go = PICTURES[name]
            page = context.new_page()
            page.set_viewport_size({"width": width, "height": height})
            seen = go(page, scene)
            page.mouse.move(0, 0)  # nothing is to be pointed at
            page.wait_for_timeout(1500)  # until what slides in stands still
            save(seen.screenshot(), folder / f"{name}.png")
            page.close()


if __name__ == "__main__":
    main()
