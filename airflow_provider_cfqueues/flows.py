"""Kept for code that imports ``Purge`` from here; its home is ``client.purging``."""

from airflow_provider_cfqueues.client.purging import Purge

__all__ = ["Purge"]
