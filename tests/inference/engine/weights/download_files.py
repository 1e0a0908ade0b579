"""A process of its own that downloads a hub repository's files: argv is the cache and the hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from inference.engine.weights.addresses import Hub
from inference.engine.weights.cache import LocalCache
from inference.engine.weights.download import Downloader
from inference.engine.weights.hub import HubOrigin
from inference.engine.weights.peers import Peers
from inference.engine.weights.report import Tally
from inference.engine.weights.settings import WeightsSettings

if __name__ == "__main__":
    directory, endpoint = sys.argv[1:]
    settings = WeightsSettings(cache_dir=Path(directory), hub_endpoint=endpoint, parallel=1)
    origin, tally = HubOrigin(Hub("acme", "tiny"), settings), Tally()
    downloader = Downloader(
        cache=LocalCache(settings.cache_dir),
        tally=tally,
        peers=Peers(lambda: ()),
        origin=origin,
        parallel=1,
    )
    found = {file.path: downloader.fetch(file).sha256 for file in origin.files()}
    print(json.dumps({"files": found, **tally.report().to_dict()}))
