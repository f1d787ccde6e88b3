"""Apache Airflow provider for Cloudflare Queues."""

__version__ = "0.1.0"

DEFAULT_CONNECTION = "cloudflare_default"
"""The Airflow connection that is used unless another is named; here, where it costs no import."""
