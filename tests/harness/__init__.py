"""The Python behind ``scripts/``: a private Airflow, an emulated Cloudflare, and the audit for lost messages."""
