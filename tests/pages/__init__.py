"""A market with something on every page, and the list of all pages, for proofs about them."""
