"""Event-driven DAGs in a real Airflow; see ``scripts/e2e``."""
