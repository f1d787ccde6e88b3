"""Kept for code that imports ``Purge`` from here. It is defined in ``client.purging``."""

from airflow_provider_cfqueues.client.purging import Purge as Purge
