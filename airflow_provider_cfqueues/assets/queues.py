"""
The asset URI of a queue: ``cloudflare-queues://ACCOUNT_ID/QUEUE_NAME``.

It loads neither Airflow nor an HTTP library: Airflow imports it whenever a DAG file names an asset of any kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_cfqueues.arguments import is_id, parse_id, parse_name

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow_provider_cfqueues._compat import Asset

SCHEME = "cloudflare-queues"


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Check the URI of a queue's asset, and write the account in lower case.

    Airflow calls it for each asset of the scheme, after it dropped trailing slashes and fragments. Airflow 2.11 turns
    the error into a warning, unless ``[core] strict_dataset_uri_validation`` is set.

    :param uri: the URI in its parts.
    :raises ValueError: it is not exactly an account ID and a queue name.
    """
    name = uri.path.strip("/")
    problems = {
        "the account ID is missing": not uri.netloc,
        "the account ID must be 1 to 32 letters, digits, '-' or '_', without user or port": not is_id(uri.netloc),
        "the queue name is missing": not name,
        "there is more than a queue name after the account ID": "/" in name,
        "there is a query (after '?')": uri.query,
    }
    if found := [problem for problem, is_there in problems.items() if is_there]:
        shown = uri._replace(netloc=uri.netloc.rpartition("@")[2]).geturl()  # without what may be a secret
        msg = f"The URI of a queue's asset must be {SCHEME}://ACCOUNT_ID/QUEUE_NAME, but in {shown!r} {found[0]}"
        raise ValueError(msg)
    return uri._replace(netloc=uri.netloc.lower(), path=f"/{name}")


def create_asset(*, account_id: str, queue_name: str, extra: dict[str, Any] | None = None) -> Asset:
    """
    Return the asset of a queue (on Airflow 2.11, the dataset).

    :param account_id: ID of the account that owns the queue.
    :param queue_name: name of the queue.
    :param extra: what Airflow stores with the asset.
    :raises ValueError: the account ID or the name cannot be one.
    """
    from airflow_provider_cfqueues._compat import Asset

    account = parse_id(account_id, "account_id").lower()  # Airflow takes the asset's name from the URI as given
    name = quote(parse_name(queue_name), safe="")
    return Asset(uri=f"{SCHEME}://{account}/{name}", extra=extra)
