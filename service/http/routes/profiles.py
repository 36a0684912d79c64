"""The profiles that cases can be created with."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from service.http.access import REFUSED, Parts, needs
from service.http.openapi import problems
from service.schemas.profiles import ProfileView
from service.views.cases import profile_view

router = APIRouter()


@router.get(
    "/v1/profiles",
    tags=["profiles"],
    responses=problems(*REFUSED, 503),
    dependencies=[Depends(needs(None))],
)
async def get_profiles(parts: Parts) -> list[ProfileView]:
    """List the profiles that cases can be created with."""
    return [profile_view(profile) for profile in parts.cases.offered()]
