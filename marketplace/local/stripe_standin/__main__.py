"""Start the stand-in: `python -m marketplace.local.stripe_standin --port N [--state FILE]`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket
import sys
from pathlib import Path

import uvicorn

from marketplace.local.stripe_standin.app import App
from marketplace.local.stripe_standin.delivery import endpoint
from marketplace.local.stripe_standin.description import DescriptionMissing, load
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.store import Change, StateLocked, Store
from marketplace.local.stripe_standin.wire import Protocol

HOST = "127.0.0.1"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m marketplace.local.stripe_standin",
        description="A stateful, spec-checked stand-in for Stripe on 127.0.0.1. No money moves.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one (default)")
    parser.add_argument("--state", type=Path, help="journal file; without it state is in memory")
    parser.add_argument("--cache", type=Path, default=Path("var/cache"), help="default %(default)s")
    parser.add_argument("--webhook-url", help="where webhooks go; without it there are none")
    parser.add_argument("--webhook-secret", default="", help="what signs them, as in whsec_…")
    parser.add_argument("--quiet", action="store_true", help="no line per request")
    return parser.parse_args()


def main() -> int:
    """Serve until SIGTERM or Ctrl-C. Returns the exit code."""
    args = _arguments()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s Stripe stand-in: %(message)s", stream=sys.stdout
    )
    log = logging.getLogger("stripe_standin")
    try:
        description = load(args.cache, log.info)
        store = Store(args.state)
        if args.webhook_url:
            for each in endpoint({"url": args.webhook_url, "secret": args.webhook_secret}):
                store.commit(Change(objects=[each]))
        listener = socket.create_server((HOST, args.port), backlog=512)
    except (DescriptionMissing, StateLocked, OSError, OverflowError) as error:
        print(f"Stripe stand-in: cannot start: {error}", file=sys.stderr)
        return 1
    except ApiError as error:
        print(f"Stripe stand-in: webhook {error.message}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"Stripe stand-in: {args.state} is no journal of its own: {error}", file=sys.stderr)
        return 1
    port = listener.getsockname()[1]
    log.info(
        "not Stripe, no money moves; description %s; %d events in state; listening on http://%s:%d",
        description.api_version, len(store.events), HOST, port,
    )  # fmt: skip
    if args.quiet:
        log.setLevel(logging.WARNING)
    config = uvicorn.Config(
        App(description, store, f"http://{HOST}:{port}"),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down
        uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
