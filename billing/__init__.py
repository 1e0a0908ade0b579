"""Money: rating, ledger, wallets, meters, invoices, statements and Stripe."""
