"""`veridask reseal`: after a new encryption key was put first in its file, wrap every data key again with it, those of
cases and of webhook endpoints.

Media, findings and values stay as they are: they are sealed by the data keys, which do not change. Some hundred keys in
one transaction, so it can be interrupted and repeated, beside running API processes that have both keys.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress

from service.assembly import opened_stores
from service.settings.settings import Settings

_AT_ONCE = 200


async def reseal(settings: Settings, console: Console) -> int:
    """Wrap what other keys than the first wrapped; gives how many. Raises KeyMissingError, SettingsError,
    StoreUnavailableError; what was done until then stays done.
    """
    done = 0
    async with opened_stores(settings) as (store, _):
        with Progress(console=console) as progress:
            task = progress.add_task("data keys", total=await store.keys_wrapped_by_others())
            while wrapped := await store.reseal(_AT_ONCE):
                done += wrapped
                progress.advance(task, wrapped)
    return done
