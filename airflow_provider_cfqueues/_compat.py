"""The only module that asks which Airflow is running."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, BaseOperator
    from airflow.sdk import Context as Context
    from airflow.sdk.log import mask_secret
else:
    try:
        from airflow.sdk import BaseHook, BaseOperator
    except ImportError:  # Airflow 2
        from airflow.hooks.base import BaseHook
        from airflow.models import BaseOperator
    try:
        from airflow.sdk.log import mask_secret
    except ImportError:  # Airflow 2
        from airflow.utils.log.secrets_masker import mask_secret

__all__ = ["BaseHook", "BaseOperator", "mask_secret"]
