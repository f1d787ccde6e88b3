"""What a request that got no usable answer is raised as: the same errors for both clients."""

from __future__ import annotations

from typing import Any

from airflow_provider_cfqueues import exceptions as errors
from airflow_provider_cfqueues.client.answers import TooLarge
from airflow_provider_cfqueues.client.call import Call
from airflow_provider_cfqueues.client.environment import Network
from airflow_provider_cfqueues.client.settings import Settings

CONNECT_TIMEOUT_SECONDS = 5


class TooSlow(Exception):
    """Some of the answer came, but not all of it in time."""

    def __str__(self) -> str:
        return "the answer began, but was not complete in time"


def no_answer(
    call: Call[Any], settings: Settings, network: Network, error: Exception, *, connected: bool
) -> errors.CloudflareQueuesError:
    """
    Return the error of a request that got no usable answer.

    :param call: what was asked.
    :param settings: the connection.
    :param network: how the API is reached.
    :param error: what happened.
    :param connected: whether the request may have arrived.
    """
    if isinstance(error, TooLarge):
        return errors.ResponseTooLargeError(f"Could not {call.name}: {error}", queue=call.queue)
    if isinstance(error, TooSlow):
        return errors.ResponseTooSlowError(f"Could not {call.name}: {error}", queue=call.queue)
    cause = getattr(error.args[0] if error.args else None, "reason", error)  # of requests' nest, the innermost
    msg = f"Could not {call.name}: {type(cause).__name__}: {cause}"
    if network.proxy is not None:
        msg += f". The request went through the proxy in {network.proxy.variable}: check its address, user and password"
    if settings.is_loopback and not connected:
        msg += f". Nothing answers at {settings.base_url}: start the emulator, or correct its port in 'host'"
    failed = errors.TransportError(msg, queue=call.queue)
    failed.add(maybe_applied=connected)
    return failed


def without_frames(error: errors.CloudflareQueuesError) -> errors.CloudflareQueuesError:
    """
    Return an error without its traceback, and without those of the exceptions that it was raised from.

    Its text says what happened. A hundred lines of HTTP libraries, tenacity and flows would hide that in a task log,
    and an error tracker would record their local variables, which hold the credentials.

    :param error: the error.
    """
    if (cause := error.__cause__) is not None:
        cause.__cause__ = None  # nor is its context shown then
        error.__cause__ = cause.with_traceback(None)
    return error.with_traceback(None)
