"""Apache Airflow provider for Cloudflare Queues."""

__version__ = "0.1.0"
