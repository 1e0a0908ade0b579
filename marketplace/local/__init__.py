"""What `make run` and `make demo` start on one machine in place of hosted services."""
