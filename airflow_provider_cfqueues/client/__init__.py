"""
Cloudflare Queues over HTTP, without Airflow.

``call`` says what one REST call is, ``message_calls`` and ``queue_calls`` list them, ``answers`` and ``reading`` read
what comes back.
``messages``, ``administration``, ``lookup`` and ``purging`` are flows (``flow``): generators that make several calls.
``transport`` carries both over the network, sync and async: it is the only module with I/O.
"""
