"""Lets the command be called as `python -m mercato`."""

from mercato.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
