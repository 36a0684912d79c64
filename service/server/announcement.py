"""Where a running service announces itself: a file in its data folder.

The file says the address and the process ids. `service.server.serve` writes it and `service.server.local` reads it.
"""

from __future__ import annotations

from pathlib import Path

_ALONE, _ONE_OF_MANY = "service.json", "api-{}.json"


def announcement_path(folder: Path, process_id: int | None = None) -> Path:
    """The announcement in the data folder `folder`.

    process_id: of an API process that joins a cluster; None for a service with an embedded cluster, which is alone.
    """
    return folder / (_ALONE if process_id is None else _ONE_OF_MANY.format(process_id))


def announcements(folder: Path) -> list[Path]:
    """The announcements that exist in the data folder, a service with an embedded cluster first."""
    paths = (announcement_path(folder), *sorted(folder.glob(_ONE_OF_MANY.format("*"))))
    return [path for path in paths if path.exists()]
