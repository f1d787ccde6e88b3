"""
Whether an endpoint behaves as this emulator does: probes that run against any Cloudflare Queues API.

Only the standard library is needed, so that whoever has an account can run it. docs/emulator.md says how.
"""
