"""The engine that processes a queue inside one task: pull ahead, handle, settle by outcome."""
