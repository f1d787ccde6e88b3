"""What Airflow asks a provider about itself; it is read by every Airflow process, so it imports nothing."""

from __future__ import annotations

from typing import Any

_ASSET_URIS = [
    {
        "schemes": ["cloudflare-queues"],
        "handler": "airflow_provider_cfqueues.assets.queues.sanitize_uri",
        "factory": "airflow_provider_cfqueues.assets.queues.create_asset",
        "to_openlineage_converter": "airflow_provider_cfqueues.telemetry.lineage.convert_asset_to_openlineage",
    }
]
_MODULES = {
    "hooks": ("administration", "base", "queues"),
    "operators": ("administration", "base", "consumers", "process", "purge", "queues", "redrive", "runs", "settling"),
    "sensors": ("queues",),
    "triggers": ("purging", "queues", "sensing"),
}


def _list_modules(package: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    modules = [f"airflow_provider_cfqueues.{package}.{name}" for name in names]
    return [{"integration-name": "Cloudflare Queues", "python-modules": modules}]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, with the fields of its connection form."""
    return {
        "package-name": "airflow-provider-cfqueues",
        "name": "Cloudflare Queues",
        "description": "Pull, process, settle and send messages of Cloudflare Queues.",
        "integrations": [
            {
                "integration-name": "Cloudflare Queues",
                "external-doc-url": "https://developers.cloudflare.com/queues/",
                "tags": ["service"],
            }
        ],
        **{package: _list_modules(package, names) for package, names in _MODULES.items()},
        "notifications": ["airflow_provider_cfqueues.notifications.queues.CloudflareQueuesNotifier"],
        "extra-links": ["airflow_provider_cfqueues.links.queues.CloudflareQueueLink"],
        "queues": ["airflow_provider_cfqueues.queues.cloudflare.CloudflareQueuesMessageQueueProvider"],
        "asset-uris": _ASSET_URIS,
        "dataset-uris": _ASSET_URIS,  # their name in Airflow 2
        "cli": ["airflow_provider_cfqueues.cli.definition.get_cli_commands"],
        "task-decorators": [
            {
                "name": "cloudflare_queue",
                "class-name": "airflow_provider_cfqueues.decorators.queues.cloudflare_queue_task",
            }
        ],
        "connection-types": [
            {
                "connection-type": "cloudflare",
                "hook-class-name": "airflow_provider_cfqueues.hooks.queues.CloudflareQueuesHook",
                "hook-name": "Cloudflare",
                "conn-fields": {
                    "account_id": {
                        "label": "Account ID",
                        "description": "The account that owns the queues: the ID in the dashboard's address.",
                        "schema": {"type": "string", "minLength": 1, "maxLength": 32},
                    },
                    "api_key": {
                        "label": "Global API Key",
                        "description": "Only without an API token, and together with the account e-mail.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                },
                "ui-field-behaviour": {
                    # 'port' stays visible: without one, Airflow 3.3's "Test connection" fails (apache/airflow#73298).
                    "hidden-fields": [],
                    "relabeling": {
                        "password": "API token",
                        "login": "Account e-mail",
                        "host": "API base URL",
                        "port": "Port (not used)",
                        "schema": "Schema (not used)",
                    },
                    "placeholders": {
                        "password": "with the permission Queues Write",
                        "login": "only with a Global API Key",
                        "port": "443, as Airflow 3.3 cannot test without a port",
                        "host": "https://api.cloudflare.com/client/v4",
                    },
                },
            }
        ],
    }
