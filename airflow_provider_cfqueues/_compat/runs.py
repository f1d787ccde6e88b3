"""
Start runs of a DAG, and read their state, from inside a task. Each Airflow has its own way.

Airflow 3 gives a task no database. It asks the supervisor of the task, which asks the API server. Airflow 2 has no such
API: there, a task uses the database.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Protocol

from airflow_provider_cfqueues._compat import AIRFLOW_VERSION
from airflow_provider_cfqueues._compat.supervisor import share_supervisor

ACTIVE_STATES = ("queued", "running")
_TRIES = 3


class DagRuns(Protocol):
    """The runs of one DAG."""

    def is_paused(self) -> bool | None:
        """
        Return whether the DAG is paused; None if a task cannot find out (Airflow 3.0 and 3.1).

        :raises LookupError: there is no such DAG.
        """

    def start(self, run_id: str, conf: dict[str, Any]) -> bool:
        """
        Start a run. Return False if there already is one with this ID.

        :raises ValueError: Airflow refuses ``conf``, and says why. Airflow 3.0 to 3.2 do not tell that from an outage.
        :raises LookupError: the DAG is not there, or cannot be run now.
        """

    def clear(self, run_id: str, conf: dict[str, Any]) -> None:
        """Clear a run, so that all its tasks run again. If it was deleted meanwhile, start it, with ``conf``."""

    def get_state(self, run_id: str) -> str | None:
        """Return ``queued``, ``running``, ``success`` or ``failed``; None if there is no such run."""

    def exists(self, run_id: str) -> bool:
        """Return whether there is a run with this ID."""

    def count_active(self) -> int:
        """Return how many runs of the DAG are queued or running, no matter who started them."""


def find_dag_runs(dag_id: str) -> DagRuns:
    """
    Return the runs of a DAG. Call it in the thread that executes the task; its methods may be called in any.

    :param dag_id: ID of the DAG.
    :raises RuntimeError: this is Airflow 3, and no task runs here.
    """
    if AIRFLOW_VERSION.startswith("2."):
        return _DatabaseRuns(dag_id)
    supervisor = share_supervisor()
    if supervisor is None:
        msg = f"Cannot start runs of DAG {dag_id!r}: Airflow 3 lets only a running task do that. Use dag.test()"
        raise RuntimeError(msg)
    return _SupervisorRuns(dag_id, supervisor)


class _SupervisorRuns:
    """Airflow 3. The supervisor is kept, as ``dag.test()`` hides it while it answers another thread."""

    def __init__(self, dag_id: str, supervisor: Any) -> None:
        self._dag_id = dag_id
        self._supervisor = supervisor

    def is_paused(self) -> bool | None:
        try:
            from airflow.sdk.execution_time.comms import GetDag
        except ImportError:  # before 3.2
            return None
        return bool(self._ask(GetDag(dag_id=self._dag_id)).is_paused)

    def start(self, run_id: str, conf: dict[str, Any], *, clear: bool = False) -> bool:
        from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

        for _ in range(_TRIES):
            now = datetime.now(timezone.utc)
            question = TriggerDagRun(
                dag_id=self._dag_id, run_id=run_id, conf=conf, logical_date=now, reset_dag_run=clear
            )
            if not isinstance(self._ask(question), ErrorResponse):
                return True
            if self.exists(run_id):
                return False  # else another run has this date, and the next microsecond is free
        raise _no_free_date(self._dag_id, run_id)

    def clear(self, run_id: str, conf: dict[str, Any]) -> None:
        self.start(run_id, conf, clear=True)

    def get_state(self, run_id: str) -> str | None:
        from airflow.sdk.execution_time.comms import GetDagRunState

        try:
            return str(self._ask(GetDagRunState(dag_id=self._dag_id, run_id=run_id)).state.value)
        except LookupError:
            return None

    def exists(self, run_id: str) -> bool:
        return self._count(run_ids=[run_id]) > 0  # a look at its state would log an error if it is not there

    def count_active(self) -> int:
        return self._count(states=list(ACTIVE_STATES))

    def _count(self, **which: Any) -> int:
        from airflow.sdk.execution_time.comms import GetDRCount

        return int(self._ask(GetDRCount(dag_id=self._dag_id, **which)).count)

    def _ask(self, message: Any) -> Any:
        from airflow.sdk.api.client import ServerResponseError
        from airflow.sdk.exceptions import AirflowRuntimeError

        try:
            return self._supervisor.send(message)
        except AirflowRuntimeError as error:
            known = error.error.detail or {}
            raise self._refusal(known.get("status_code"), known.get("detail"), str(error)) from error
        except ServerResponseError as error:  # in dag.test(), which has no process between
            raise self._refusal(error.response.status_code, error.response.json(), str(error)) from error

    def _refusal(self, status: int | None, body: Any, text: str) -> Exception:
        """Return what it means that the API server did not do what it was asked for."""
        detail = body.get("detail") if isinstance(body, dict) else None
        known = detail if isinstance(detail, dict) else {}
        why = str(known.get("message") or text)
        if known.get("reason") == "value_error":
            return ValueError(why)
        if status in (400, 404):  # it is not there, has import errors, or no task may start it
            return _no_run(self._dag_id, why)
        return RuntimeError(text)


def _no_run(dag_id: str, why: object) -> LookupError:
    return LookupError(
        f"Airflow starts no run of DAG {dag_id!r}: {why}. Check trigger_dag_id, and the file of this DAG"
    )


def _no_free_date(dag_id: str, run_id: str) -> RuntimeError:
    return RuntimeError(f"Could not start run {run_id}: other runs of DAG {dag_id!r} have its logical date")


class _DatabaseRuns:
    """Airflow 2."""

    def __init__(self, dag_id: str) -> None:
        self._dag_id = dag_id

    def _model(self) -> Any:
        from airflow.models.dag import DagModel

        model = DagModel.get_current(self._dag_id)
        if model is None:
            raise _no_run(self._dag_id, "there is no such DAG")
        return model

    def is_paused(self) -> bool | None:
        return bool(self._model().is_paused)

    def start(self, run_id: str, conf: dict[str, Any]) -> bool:
        from airflow import exceptions
        from airflow.api.common import trigger_dag
        from sqlalchemy.exc import IntegrityError

        trigger: Any = trigger_dag.trigger_dag
        known: Any = exceptions
        for _ in range(_TRIES):
            now = datetime.now(timezone.utc)
            try:
                trigger(self._dag_id, run_id=run_id, conf=conf, execution_date=now, replace_microseconds=False)
            except (known.DagRunAlreadyExists, IntegrityError):
                if self.exists(run_id):
                    return False  # else another run has this date, and the next microsecond is free
            except known.DagNotFound as error:
                raise _no_run(self._dag_id, error) from error
            except known.ParamValidationError as error:
                raise ValueError(str(error)) from error
            else:
                return True
        raise _no_free_date(self._dag_id, run_id)

    def clear(self, run_id: str, conf: dict[str, Any]) -> None:
        from airflow.models import DagBag

        date = self._read("execution_date", run_id=run_id)
        if date is None:
            self.start(run_id, conf)
            return
        make_bag: Any = DagBag
        bag = make_bag(dag_folder=self._model().fileloc, read_dags_from_db=True)
        bag.get_dag(self._dag_id).clear(start_date=date, end_date=date)

    def get_state(self, run_id: str) -> str | None:
        state = self._read("state", run_id=run_id)
        return None if state is None else str(state)

    def exists(self, run_id: str) -> bool:
        return self._read("id", run_id=run_id) is not None

    def count_active(self) -> int:
        from airflow.models import DagRun
        from airflow.utils.session import create_session

        with create_session() as session:
            runs = session.query(DagRun).filter(DagRun.dag_id == self._dag_id, DagRun.state.in_(ACTIVE_STATES))
            return int(runs.count())

    def _read(self, column: str, *, run_id: str) -> Any:
        from airflow.models import DagRun
        from airflow.utils.session import create_session

        with create_session() as session:
            query = session.query(getattr(DagRun, column))
            return query.filter(DagRun.dag_id == self._dag_id, DagRun.run_id == run_id).scalar()
