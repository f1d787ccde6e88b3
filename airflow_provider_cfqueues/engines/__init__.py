"""The loops: processing, redriving, watching, probing."""
