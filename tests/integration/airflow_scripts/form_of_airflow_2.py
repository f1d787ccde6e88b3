"""Print the connection form as JSON, from the page that Airflow 2's web server makes of it."""

from __future__ import annotations

import json
import re
from html import unescape

from airflow.utils.db import initdb
from airflow.www.app import create_app

PREFIX = "extra__cloudflare__"


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.DOTALL)
    return unescape(match[1]).strip() if match else ""


initdb()
app = create_app(testing=True)
app.config["AUTH_ROLE_PUBLIC"] = "Admin"  # everybody may see the page
page = app.test_client().get("/connection/add").get_data(as_text=True)
behaviour = json.loads(found(r'<script id="field_behaviours"[^>]*>(.*?)</script>', page))["cloudflare"]
extra = {}
for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL):
    if name := found(rf'name="{PREFIX}(\w+)"', row):
        extra[name] = {
            "label": found(r"<label[^>]*>(.*?)</label>", row),
            "help": found(r'<span class="help-block">(.*?)</span>', row),
            "secret": 'type="password"' in row,
        }
print(
    json.dumps(
        {
            "name": found(r'<option[^>]* value="cloudflare">(.*?)</option>', page),
            "labels": behaviour["relabeling"],
            "placeholders": {
                name: text for name, text in behaviour["placeholders"].items() if not name.startswith("extra__")
            },
            "hidden": behaviour["hidden_fields"],
            "extra": extra,
        }
    )
)
