"""Where outputs go: names that tell the model and the job, and nothing is written over."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Sequence
from pathlib import Path

from mercato.cli.terminal import Refused, tell
from mercato.types import Job, Output

_TAIL = 8
"""Characters of a job's id in a name: its last ones, for its first ones tell the time."""


class Place:
    """Where the outputs of a call go. Raises Refused before anything is paid for."""

    def __init__(self, given: str | None, *, force: bool) -> None:
        self._force = force
        self.is_stream = given == "-"
        if self.is_stream and sys.stdout.isatty():
            raise Refused(
                "-o - would show bytes on your screen: send them to a file or program.", 2
            )
        self._path = Path(given or ".").expanduser()
        self.is_folder = given is None or given.endswith("/") or self._path.is_dir()
        if not (self.is_folder or self.is_stream) and self._path.exists() and not force:
            raise Refused(f"{self._path} exists; --force writes over it.")
        if not self.is_folder and not self._path.parent.is_dir():
            raise Refused(f"There is no folder {self._path.parent}.")

    def save(self, job: Job, outputs: Sequence[Output]) -> list[Path]:
        """Download the outputs and return where they lie. Raises Refused for two into a stream."""
        if self.is_stream:
            if len(outputs) != 1:
                where = f"`mercato status {job.id}` has their links"
                raise Refused(f"-o - takes one output, not {len(outputs)}: {where}.")
            sys.stdout.buffer.write(outputs[0].read())
            sys.stdout.flush()
            return []
        if self.is_folder:
            self._path.mkdir(parents=True, exist_ok=True)
        saved = []
        for number, output in enumerate(outputs, 1):
            target = self._target(job, output, number if len(outputs) > 1 else 0)
            saved.append(output.save(target))
            said, _ = mimetypes.guess_type(target.name)
            if said not in (None, output.content_type):
                tell(f"{target} is {output.content_type}, whatever its name says.")
        return saved

    def _target(self, job: Job, output: Output, number: int) -> Path:
        if self.is_folder:
            name = job.model.partition(":")[0].rpartition("/")[2]
            stem = self._path / f"{name}-{job.id[-_TAIL:]}"
            suffix = output.suffix
        else:
            stem, suffix = self._path.with_suffix(""), self._path.suffix or output.suffix
        first = stem.with_name(f"{stem.name}{f'-{number}' if number else ''}{suffix}")
        target, again = first, 1
        while target.exists() and not self._force:
            again += 1
            target = first.with_name(f"{first.stem}-{again}{suffix}")
        return target
