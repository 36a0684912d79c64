"""Parses an HTML page for tests: what a browser would run or load, and what a screen reader needs."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "br", "rect", "line", "circle", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page. tags: all tags with their attributes, in order. text: all visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.styles: list[str] = []
        self.wrong: list[str] = []
        self._open: list[str] = []
        self._parts: list[str] = []
        self.feed(html)
        self.close()
        self.wrong += [f"<{tag}> is not closed" for tag in self._open]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._parts).split())

    def of(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles.append(data)
        else:
            self._parts.append(data)


def unsafe(page: Page) -> list[str]:
    """Everything on the page that could run, load or send something. There must be nothing, whatever the CSP allows."""
    found = [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "embed", "form", "link", "base", "a")]
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            loads = name in ("src", "href", "srcset", "data", "action", "xlink:href", "background", "poster")
            if name.startswith("on") or name == "style" or (loads and not value.startswith("data:image/jpeg;base64,")):
                found.append(f"{tag} {name}")
    return found + [f"style: {style[:80]}" for style in page.styles if "url(" in style or "@import" in style]


def unreadable(page: Page) -> list[str]:
    """Everything on the page that a screen reader could not present."""
    names = [tag for tag, _ in page.tags]
    found = [f"no {tag}" for tag in ("title", "main", "h1") if names.count(tag) != 1]
    if not page.of("html")[0].get("lang"):
        found.append("no language")
    levels = [int(tag[1]) for tag in names if tag in ("h1", "h2", "h3", "h4")]
    found += [f"h{two} after h{one}" for one, two in pairwise(levels) if two > one + 1]
    found += ["img without a text" for image in page.of("img") if not image.get("alt")]
    for drawing in page.of("svg"):
        if drawing.get("aria-hidden") != "true" and not (drawing.get("role") == "img" and drawing.get("aria-label")):
            found.append("svg without a text")
    found += ["th without scope" for cell in page.of("th") if cell.get("scope") not in ("row", "col")]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    found += [f"id {one} twice" for one in set(ids) if ids.count(one) > 1]
    named = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    return found + [f"nothing is called {one}" for one in named if one not in ids]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours `#rrggbb` by WCAG 2.2 (relative luminance), 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
