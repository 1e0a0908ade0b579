"""API version 1, our own and the richest."""
