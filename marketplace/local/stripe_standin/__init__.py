"""A stand-in for Stripe: its own process, stateful, checked against Stripe's own description.

It exists so that a laptop and the tests can run the whole metering path over real HTTP with
the real SDK. It is never Stripe: no money moves, and every page, answer and log line says so.
"""
