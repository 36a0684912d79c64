"""Serves the files of the capture page. They contain nothing about a case, so they need no credential."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response

from service.pages.capture.page import FILES, HEADERS, PAGE

router = APIRouter(include_in_schema=False)
"""These pages are for people, so they are not in the OpenAPI document."""


@router.get("/capture/")
async def get_capture_page() -> Response:
    """The page itself."""
    return await get_capture_file(PAGE)


@router.get("/capture/{name}")
async def get_capture_file(name: str) -> Response:
    """A script or the stylesheet of the page."""
    file = FILES.get(name)
    if file is None:
        raise HTTPException(404)
    return Response(file.content, media_type=file.media_type, headers=HEADERS)
