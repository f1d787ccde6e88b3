"""What the tests of the commands look at."""

from __future__ import annotations

import re

from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook


def send(cf, *bodies, queue="orders"):
    CloudflareQueuesHook().send(cf.queues[queue], list(bodies))


def messages(cf, name="orders"):
    """Return the messages of a queue, as the emulator holds them."""
    (queue,) = (queue for queue in cf.state()["queues"] if queue["name"] == name)
    return queue["messages"]


def in_queue(cf, name="orders"):
    """Return how many messages are in each state."""
    states = [message["state"] for message in messages(cf, name)]
    return {state: states.count(state) for state in set(states)}


def columns(line):
    return re.split(r"  +", line.strip())
