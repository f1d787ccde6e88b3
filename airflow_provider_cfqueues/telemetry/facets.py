"""Facets that OpenLineage does not have. They are loaded only if OpenLineage asks for a task's lineage."""

from __future__ import annotations

from typing import ClassVar

import attr
from openlineage.client.facet_v2 import InputDatasetFacet

SCHEMAS = "https://raw.githubusercontent.com/airflow-provider-cfqueues/airflow-provider-cfqueues/v0.1.0"
"""OpenLineage wants a permanent address for each version of a schema. The tag is that of its last change."""


@attr.define
class CloudflareQueuesMessagesInputDatasetFacet(InputDatasetFacet):  # type: ignore[misc, unused-ignore]
    """
    What became of the messages of a queue; the key of the facet is ``cloudflareQueues_messages``.

    :param acked: acks that the API confirmed.
    :param retried: retries that the API confirmed.
    :param unconfirmed: leases that the API was asked to settle, and did not confirm.
    """

    acked: int | None = attr.field(default=None)
    retried: int | None = attr.field(default=None)
    unconfirmed: int | None = attr.field(default=None)

    _additional_skip_redact: ClassVar[list[str]] = ["acked", "retried", "unconfirmed"]

    @staticmethod
    def _get_schema() -> str:
        name = "CloudflareQueuesMessagesInputDatasetFacet"
        return f"{SCHEMAS}/airflow_provider_cfqueues/telemetry/{name}.json#/$defs/{name}"
