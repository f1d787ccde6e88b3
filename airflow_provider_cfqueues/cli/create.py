"""Create a queue with a pull consumer, or change the settings of one that exists."""

from __future__ import annotations

from argparse import Namespace

from airflow_provider_cfqueues.arguments import parse_consumer, parse_queue_settings
from airflow_provider_cfqueues.cli.formats import NO_DEAD_LETTER_QUEUE
from airflow_provider_cfqueues.cli.running import command
from airflow_provider_cfqueues.cli.screen import Screen
from airflow_provider_cfqueues.exceptions import AlreadyExistsError
from airflow_provider_cfqueues.hooks.administration import ConsumerSettings
from airflow_provider_cfqueues.hooks.queues import CloudflareQueuesHook

OF_THE_CONSUMER = tuple(ConsumerSettings.__annotations__)


@command
def create(arguments: Namespace, hook: CloudflareQueuesHook, screen: Screen) -> None:
    """Create a queue with a pull consumer, or change the settings of one that exists."""
    name = arguments.queue
    settings = parse_queue_settings(
        delivery_delay=arguments.delivery_delay, message_retention_period=arguments.message_retention_period
    )
    of_consumer = {key: getattr(arguments, key) for key in OF_THE_CONSUMER}
    parse_consumer(**of_consumer)  # a wrong value is an error before the queue is created
    try:
        queue_id, created = hook.create_queue(name, **settings).queue_id, True
    except AlreadyExistsError:
        queue_id, created = hook.get_queue_id(name), False
        if settings:
            hook.update_queue(queue_id, **settings)
    ensured = hook.ensure_pull_consumer(queue_id, **of_consumer)
    consumer = {key: getattr(ensured.consumer, key.removeprefix("consumer_")) for key in OF_THE_CONSUMER}
    facts = {"queue_id": queue_id, "queue_name": name, "created": created, "consumer": ensured.action, **consumer}
    dead_letter_queue = consumer["dead_letter_queue"]
    after = f"then {dead_letter_queue}" if dead_letter_queue else NO_DEAD_LETTER_QUEUE
    screen.result(
        facts,
        f"Queue {name} ({queue_id}): {'created' if created else 'existed already'}\n"
        f"Its pull consumer: {ensured.action}, max_retries={ensured.consumer.max_retries}, {after}",
    )
