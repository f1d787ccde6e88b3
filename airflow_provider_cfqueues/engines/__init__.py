"""The loops that process, redrive and watch a queue, and the probes of sensors."""
