"""Presentation attacks on the face video: each module measures one thing; the policy decides what is enough."""
