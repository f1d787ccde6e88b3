"""Watch a queue from the triggerer: pull within bounds, offer each message, settle by what became of it."""
