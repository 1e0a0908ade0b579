"""Rating, ledger, wallets, meters and their invariants. Knows nothing of jobs or models."""
