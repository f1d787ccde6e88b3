import asyncio

from airflow_provider_cfqueues.engines.processing.report import Report
from airflow_provider_cfqueues.engines.processing.settler import Settler
from airflow_provider_cfqueues.engines.settlement import Settlement
from airflow_provider_cfqueues.models import Message


class BrokenPort:
    """A queue with a bug, not a failure of the API."""

    can_dead_letter = False

    async def ack(self, acks, retries):
        raise RuntimeError("a bug")


def test_a_bug_while_settling_is_reported_and_its_messages_count_as_unconfirmed():
    async def settle():
        report, settled, errors = Report(), [], []
        settler = Settler(
            BrokenPort(),
            interval=1,
            report=report,
            on_settled=settled.append,
            on_error=errors.append,
            leaves=lambda message: False,
        )
        settler.stage(Settlement(message=Message(id="m", lease_id="l", body=None), kind="acked"))
        settler.flush()
        await asyncio.wait([*settler.requests])
        await asyncio.sleep(0)
        return report, settled, errors

    report, settled, errors = asyncio.run(settle())
    assert (report.acked, report.unconfirmed, settled) == (0, 1, [1])
    assert [str(error) for error in errors] == ["a bug"]
