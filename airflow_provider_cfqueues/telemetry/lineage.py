"""
Lineage: which queues a task read and wrote, for OpenLineage and for Airflow's collector of hook lineage.

A queue is the dataset QUEUE_NAME in the namespace ``cloudflare-queues://ACCOUNT``, as the asset
``cloudflare-queues://ACCOUNT/QUEUE_NAME`` is. If a queue was given by ID and not looked up, its ID stands for its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from airflow_provider_cfqueues._compat import add_hook_lineage
from airflow_provider_cfqueues.assets.queues import SCHEME

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset

    from airflow_provider_cfqueues._compat import BaseHook
    from airflow_provider_cfqueues.client.flow import Known

FACET = "cloudflareQueues_messages"
"""The facet that counts what OpenLineage has no facet for: messages acked, retried and not confirmed."""


def namespace(account_id: str) -> str:
    """
    Return the namespace of an account's queues.

    :param account_id: the account; its case does not matter.
    """
    return f"{SCHEME}://{account_id.lower()}"


def convert_asset_to_openlineage(asset: Any, lineage_context: Any) -> Dataset:
    """
    Return a queue's asset as OpenLineage's dataset; Airflow calls it for inlets, outlets and hook lineage.

    :param asset: the asset.
    :param lineage_context: what collected it.
    """
    from openlineage.client.event_v2 import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=namespace(parts.netloc), name=unquote(parts.path.strip("/")))


class Traffic:
    """
    What a hook read from and wrote to queues, for its life.

    :param hook: the hook, as the context of hook lineage.
    :param known: what the hook has looked up: names of queues.
    """

    def __init__(self, hook: BaseHook, known: Known) -> None:
        self._hook = hook
        self._known = known
        self._moved: dict[tuple[str, str], Counter[str]] = {}

    def add(self, account_id: str, queue_id: str, moved: Mapping[str, int]) -> None:
        """
        Count messages; the first of a queue make it an input or output of the task, too.

        :param account_id: the account.
        :param queue_id: ID of the queue.
        :param moved: how many messages were ``pulled``, ``sent``, ``acked``, ``retried`` or not confirmed.
        """
        known = self._moved.setdefault((account_id, queue_id), Counter())
        before = _directions(known)
        known.update(moved)
        for direction in _directions(known) - before:
            uri = f"{namespace(account_id)}/{quote(self._known.call(queue_id), safe='')}"
            add_hook_lineage(direction, context=self._hook, uri=uri)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the numbers as plain JSON values: a trigger's event brings them to the task."""
        return [
            {"account_id": account_id, "queue_id": queue_id, "moved": dict(moved)}
            for (account_id, queue_id), moved in self._moved.items()
        ]

    def add_list(self, plain: Sequence[Mapping[str, Any]], *, name: str | None) -> None:
        """
        Count what another hook moved in one queue.

        :param plain: its :meth:`to_list`.
        :param name: name of the queue, where it is known.
        """
        for queue in plain:
            if name is not None:
                self._known.queue_ids[name] = queue["queue_id"]
            self.add(queue["account_id"], queue["queue_id"], queue["moved"])

    def to_openlineage(self) -> OperatorLineage[Any, Any]:
        """Return the queues as inputs and outputs, with the numbers of messages."""
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.event_v2 import InputDataset, OutputDataset
        from openlineage.client.facet_v2 import (
            InputDatasetFacet,
            input_statistics_input_dataset,
            output_statistics_output_dataset,
        )

        from airflow_provider_cfqueues.telemetry.facets import CloudflareQueuesMessagesInputDatasetFacet

        inputs, outputs = [], []
        for (account_id, queue_id), moved in self._moved.items():
            where, name = namespace(account_id), self._known.call(queue_id)
            if "input" in _directions(moved):
                facets: dict[str, InputDatasetFacet] = {}
                if "pulled" in moved:
                    facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
                        rowCount=moved["pulled"]
                    )
                if moved.keys() & {"acked", "retried", "unconfirmed"}:
                    facets[FACET] = CloudflareQueuesMessagesInputDatasetFacet(
                        acked=moved.get("acked"), retried=moved.get("retried"), unconfirmed=moved.get("unconfirmed")
                    )
                inputs.append(InputDataset(where, name, inputFacets=facets))
            if "output" in _directions(moved):
                statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=moved["sent"])
                outputs.append(OutputDataset(where, name, outputFacets={"outputStatistics": statistics}))
        return OperatorLineage(inputs=inputs, outputs=outputs)


def _directions(moved: Mapping[str, int]) -> set[str]:
    return ({"output"} if "sent" in moved else set()) | ({"input"} if moved.keys() - {"sent"} else set())
