"""The cache speaks JSON: pickle would run whatever somebody else wrote into Valkey."""

import json
from typing import Any


class JsonSerializer:
    """What Django's Redis cache needs: integers stay as they are, so that they can be counted."""

    def dumps(self, value: Any) -> int | bytes:
        """Return `value` as stored. Raises TypeError for what JSON does not know."""
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        """Return what `dumps` was given; tuples come back as lists."""
        return json.loads(data)
