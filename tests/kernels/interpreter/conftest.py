"""Run these where Triton interprets from its import on: test_under_the_interpreter.py does."""

import os

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]
