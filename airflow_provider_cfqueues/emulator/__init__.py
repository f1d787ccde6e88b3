"""A local Cloudflare Queues that speaks the same HTTP; see docs/emulator.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_cfqueues.emulator.clock import Clock
    from airflow_provider_cfqueues.emulator.server import Emulator

__all__ = ["Clock", "Emulator"]


def __getattr__(name: str) -> Any:
    # On first use: the pytest plugin is imported by every pytest, and the broker is of use without a server.
    if name == "Clock":
        from airflow_provider_cfqueues.emulator.clock import Clock

        return Clock
    if name == "Emulator":
        try:
            from airflow_provider_cfqueues.emulator.server import Emulator
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "h11"):
                raise
            raise ModuleNotFoundError(
                f"the emulator needs {error.name}: pip install 'airflow-provider-cfqueues[emulator]'", name=error.name
            ) from error
        return Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
