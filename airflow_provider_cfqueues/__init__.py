"""Apache Airflow provider for Cloudflare Queues."""

__version__ = "0.1.0"

DEFAULT_CONNECTION = "cloudflare_default"
"""The Airflow connection that is used if none is named. It stands here because this import costs nothing."""
