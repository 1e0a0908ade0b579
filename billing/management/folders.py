"""Where a command writes the documents that its `--dry-run` shows."""

from pathlib import Path

from django.core.management.base import CommandError


def folder_for_preview(out: str | None, *, org: str | None, dry_run: bool) -> Path | None:
    """Return the folder named by `--out`, made if need be. Raises CommandError if it cannot be."""
    if out is None:
        return None
    if not dry_run or org is None:
        raise CommandError("--out writes the preview of one organisation: add --dry-run and --org.")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{out} cannot be a folder: {error.strerror}.") from error
    return folder
