"""Watch a queue from the triggerer: pull, offer each message to the watchers, and settle it."""
