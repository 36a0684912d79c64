"""What the shadows of profiles would have decided (`graphs.shadow`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from service.http.access import REFUSED, Parts, needs
from service.http.openapi import problems
from service.schemas.cases import PRINTABLE, Moment
from service.schemas.shadows import ShadowView
from service.store.shadows import ShadowFilter
from service.views.shadows import shadow_view

router = APIRouter(tags=["profiles"])


@router.get("/v1/shadow", responses=problems(*REFUSED, 422, 503), dependencies=[Depends(needs("cases:read"))])
async def compare_shadows(
    parts: Parts,
    profile: Annotated[str | None, Query(max_length=64, pattern=PRINTABLE)] = None,
    created_from: Annotated[Moment | None, Query(description="Only cases created at this time or later.")] = None,
    created_before: Annotated[Moment | None, Query(description="Only cases created before this time.")] = None,
) -> list[ShadowView]:
    """Compare shadow policies with the live policy on the same uploads: how often they agree, and where they differ. A
    shadow never changes a decision. Redacted cases are not counted.
    """
    found = await parts.shadows.comparisons(ShadowFilter(profile, created_from, created_before))
    return [shadow_view(one) for one in found]
