"""Hooks of mkdocs: links that leave `docs/` work in the repository, and lead to the repository from the site."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\]\((?!https?:)([^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Turn `](../LICENSE)` into a link to the repository; links inside `docs/` stay as they are."""
    folder = posixpath.dirname(posixpath.join("docs", page.file.src_uri))

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        if target.startswith("docs/"):
            return match[0]
        return f"]({config.repo_url}/blob/main/{target}{match[2] or ''})"

    return _LINK.sub(link, markdown)
