"""The loop that moves the messages of one queue to another: pull, send, and only then ack."""
