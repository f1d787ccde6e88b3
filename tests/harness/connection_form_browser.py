"""
Make a connection by Airflow's own form: ``connection_form.py`` gives the facts as JSON on stdin.

First with a wrong token, which the test must report, then with the right one. What the pages say goes to stdout, as
JSON. It runs in an environment of its own, without Airflow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from harness.browser import browser

CONN_ID = "cloudflare_default"


class FormOfAirflow3:
    """The page for connections: a form in a dialog, and the test beside each saved connection."""

    def __init__(self, page: Page, scene: dict[str, Any]) -> None:
        self.page, self.scene = page, scene
        self.form = page.get_by_role("dialog")
        self.row = page.get_by_role("row").filter(has_text=CONN_ID)

    def fill_in(self, token: str) -> None:
        """Open the form for a new connection and fill it in."""
        self.page.goto(f"{self.scene['airflow']}/connections")
        self.page.get_by_role("button", name="Add Connection").click()
        self.form.get_by_role("textbox", name="Connection ID").fill(CONN_ID)
        self.form.get_by_role("combobox").first.click()
        self.page.get_by_role("option", name="Cloudflare", exact=True).click()
        self.form.locator('[name="host"]').fill(self.scene["cloudflare"]["base_url"])
        self.form.locator('[name="password"]').fill(token)
        self.form.locator('[name="port"]').fill("443")  # as its placeholder says
        self.form.get_by_text("Extra Fields", exact=True).click()
        self.form.locator('[name="element_account_id"]').fill(self.scene["cloudflare"]["account_id"])

    def test(self) -> str:
        """Save it, test it, and return what the page says."""
        self.save()
        self.row.get_by_label("Test Connection").click()
        return self.page.get_by_role("status").filter(has_text="Test Connection").inner_text()

    def change(self, token: str) -> None:
        """Open the form of the saved connection and give it another token."""
        self.page.reload()  # what the last test said goes away
        self.row.get_by_label("Edit Connection").click()
        self.form.locator('[name="password"]').fill(token)

    def save(self) -> None:
        """Save what is not saved yet."""
        if self.form.is_visible():
            self.form.get_by_role("button", name="Save").click()
            expect(self.form).to_be_hidden()


class FormOfAirflow2:
    """The form is a page, and has the test in it."""

    def __init__(self, page: Page, scene: dict[str, Any]) -> None:
        self.page, self.scene = page, scene

    def fill_in(self, token: str) -> None:
        """Open the form for a new connection and fill it in."""
        self.page.goto(f"{self.scene['airflow']}/connection/add")
        self.page.locator("#conn_id").fill(CONN_ID)
        self.page.locator("#conn_type").select_option("cloudflare", force=True)
        self.page.locator("#host").fill(self.scene["cloudflare"]["base_url"])
        self.page.locator("#extra__cloudflare__account_id").fill(self.scene["cloudflare"]["account_id"])
        self.change(token)

    def test(self) -> str:
        """Test it, and return what the page says."""
        with self.page.expect_response(lambda response: "connections/test" in response.url) as answer:
            self.page.locator("#test-connection").click()
        said: str = answer.value.json()["message"]
        self.page.locator(".alert").filter(has_text=said).wait_for()
        return said

    def change(self, token: str) -> None:
        """Give it another token."""
        self.page.locator("#password").fill(token)

    def save(self) -> None:
        """Save it."""
        self.page.get_by_role("button", name="Save").click()
        self.page.get_by_text("Added Row").wait_for()
        self.page.goto(f"{self.scene['airflow']}/connection/list/")


def main() -> None:
    """Go through the form; take a picture of each step if there is a folder for them."""
    scene = json.load(sys.stdin)
    folder = Path(sys.argv[1]) if sys.argv[1:] else None

    with browser() as context:
        page = context.new_page()
        page.set_viewport_size({"width": 1280, "height": 1500})
        form = (FormOfAirflow2 if scene["is_airflow_2"] else FormOfAirflow3)(page, scene)

        def show(step: str) -> None:
            if folder is not None:
                page.wait_for_timeout(1500)  # until what slides in stands still
                page.screenshot(path=folder / f"{step}.png")

        form.fill_in("wr0ng-t0ken")
        show("1-filled-in")
        said = {"wrong token": form.test()}
        show("2-wrong-token")
        form.change(scene["cloudflare"]["api_token"])
        said["token"] = form.test()
        show("3-right-token")
        form.save()
        show("4-saved")
    print(json.dumps(said))


if __name__ == "__main__":
    main()
