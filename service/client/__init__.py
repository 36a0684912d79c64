"""The Python client: what programs that use veridask import. Needs httpx and pydantic alone (extra `client`).

It speaks to a service over HTTP. It does not run one (`service.server`) and imports nothing of the server.
"""

from service.client.client import CaseEvent, VeridaskClient
from service.client.transport import ProblemError

__all__ = ["CaseEvent", "ProblemError", "VeridaskClient"]
