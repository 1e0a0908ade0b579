"""Helpers without a domain: money, ids, clock, errors, outbox, storage, outbound HTTP."""
