"""Invoices: the monthly close, its preview, payment, documents, and what Stripe has of them."""
