"""The paths of Cloudflare's API and the handler of each method; no HTTP yet, that is ``app``."""

from __future__ import annotations

from airflow_provider_cfqueues.emulator import message_calls, queue_calls, subscription_calls
from airflow_provider_cfqueues.emulator.call import Handler

_QUEUE = "/accounts/{account_id}/queues/{queue_id}"
_SUBSCRIPTIONS = "/accounts/{account_id}/event_subscriptions/subscriptions"
# The busiest paths first: a request is compared with one after the other.
ROUTES: dict[str, dict[str, Handler]] = {
    f"{_QUEUE}/messages": {"POST": message_calls.push},
    f"{_QUEUE}/messages/batch": {"POST": message_calls.push_batch},
    f"{_QUEUE}/messages/pull": {"POST": message_calls.pull},
    f"{_QUEUE}/messages/ack": {"POST": message_calls.ack},
    f"{_QUEUE}/messages/extend": {"POST": message_calls.extend},
    f"{_QUEUE}/messages/peek": {"POST": message_calls.peek},
    f"{_QUEUE}/messages/purge": {"POST": message_calls.purge_messages},
    f"{_QUEUE}/messages/preview": {"POST": message_calls.preview},
    f"{_QUEUE}/messages/preview/ack": {"POST": message_calls.ack_preview},
    "/user/tokens/verify": {"GET": queue_calls.verify_token},
    "/accounts/{account_id}/tokens/verify": {"GET": queue_calls.verify_token},
    "/accounts/{account_id}/queues": {"GET": queue_calls.list_queues, "POST": queue_calls.create_queue},
    _QUEUE: {
        "GET": queue_calls.get_queue,
        "PATCH": queue_calls.edit_queue,
        "PUT": queue_calls.overwrite_queue,
        "DELETE": queue_calls.delete_queue,
    },
    f"{_QUEUE}/consumers": {"GET": queue_calls.list_consumers, "POST": queue_calls.create_consumer},
    f"{_QUEUE}/consumers/{{consumer_id}}": {
        "GET": queue_calls.get_consumer,
        "PUT": queue_calls.replace_consumer,
        "DELETE": queue_calls.delete_consumer,
    },
    f"{_QUEUE}/metrics": {"GET": message_calls.get_metrics},
    _SUBSCRIPTIONS: {"GET": subscription_calls.list_subscriptions, "POST": subscription_calls.create_subscription},
    f"{_SUBSCRIPTIONS}/{{subscription_id}}": {
        "GET": subscription_calls.get_subscription,
        "PATCH": subscription_calls.edit_subscription,
        "DELETE": subscription_calls.delete_subscription,
    },
    f"{_QUEUE}/purge": {"GET": message_calls.purge_status, "POST": message_calls.start_purge},
}
