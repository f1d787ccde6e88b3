"""Print the connection form as JSON, from the endpoint that Airflow 3's web page makes it of."""

from __future__ import annotations

import json

from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.routes.ui.connections import connections_router
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from starlette.testclient import TestClient

# The endpoint alone: all of Airflow's application takes ten seconds more, and a database for log-ins.
create_auth_manager()
app = FastAPI()
app.include_router(connections_router)
app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="admin", role="ADMIN")
answer = TestClient(app).get("/connections/hook_meta")
answer.raise_for_status()
(form,) = (each for each in answer.json() if each["connection_type"] == "cloudflare")
standard = {name.removeprefix("url_"): field for name, field in form["standard_fields"].items() if field}
extra = form["extra_fields"].items()
print(
    json.dumps(
        {
            "name": form["hook_name"],
            "labels": {name: field["title"] for name, field in standard.items() if field["title"]},
            "placeholders": {name: field["placeholder"] for name, field in standard.items() if field["placeholder"]},
            "hidden": [name for name, field in standard.items() if field["hidden"]],
            "extra": {
                name: {
                    "label": field["schema"]["title"],
                    "help": field["description"],
                    "secret": field["schema"].get("format") == "password",
                    "required": "null" not in field["schema"]["type"],
                }
                for name, field in extra
            },
        }
    )
)
