"""What Schemathesis cannot know by itself when it asks the service (`benchmarks.contract`)."""

from __future__ import annotations

import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
