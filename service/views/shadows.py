"""View of the comparison between shadow policies and the live policy."""

from __future__ import annotations

from graphs.evaluation.rates import Rate
from service.schemas.shadows import ShadowView
from service.store.shadows import Comparison


def shadow_view(one: Comparison) -> ShadowView:
    """The view of one shadow's comparison with the live policy."""
    agreement = Rate(one.agreeing, one.compared).interval() if one.compared else None
    return ShadowView.model_validate(
        {
            "profile": one.profile,
            "shadow": one.shadow,
            "policy_version": one.version,
            "compared": one.compared,
            "failed": one.failed,
            "agreeing": one.agreeing,
            "agreement": agreement,
            "outcomes": [
                {"live": live, "shadow": shadow, "count": count}
                for (live, shadow), count in sorted(one.outcomes.items())
            ],
            "reviewed": [
                {"reviewer": person, "shadow": shadow, "count": count}
                for (person, shadow), count in sorted(one.reviewed.items())
            ],
            "checks": [
                {"check": check, "live": live, "shadow": shadow, "count": count}
                for (check, live, shadow), count in sorted(one.checks.items())
            ],
            "differing": [vars(each) for each in one.differing],
        }
    )
