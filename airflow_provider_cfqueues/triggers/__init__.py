"""Triggers for Cloudflare Queues."""
