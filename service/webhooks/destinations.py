"""Decides which URLs webhooks may be sent to (protection against SSRF). Customers choose these URLs, so without rules
an API key would give access to the network of the service: metadata services, databases, the scheduler.

A host is resolved when an endpoint is created and again for each delivery, which connects to exactly the address that
was checked (`service.webhooks.sender`). So a name that resolves differently in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx

from service.errors import WebhookUrlError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_TEXT = re.compile(r"https?://[!-\[\]-~]{1,2000}", re.IGNORECASE)
"""Printable ASCII without a backslash, which some programs read as a slash. Write other names in punycode."""
_NAME = re.compile(r"(?!.*\.\.)[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NEVER_PUBLIC = tuple(
    ipaddress.ip_network(net) for net in ("168.63.129.16/32", "192.0.0.0/24", "fec0::/10", "64:ff9b:1::/48")
)
"""Azure's and Oracle's metadata services and other networks that Python's `ipaddress` considers public."""
_LOOKUPS = 64
"""Most DNS lookups at once, in their own threads, so that a slow name server delays nothing else."""


def is_public(address: str) -> bool:
    """Whether an IP address is on the public Internet. An address that embeds another one is judged by that one."""
    ip: IpAddress = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inside = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            inside.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        carried = [str(one) for one in inside if one is not None]
        if carried:
            return all(map(is_public, carried))
    return ip.is_global and not ip.is_multicast and not any(ip in net for net in _NEVER_PUBLIC)


class Destinations:
    """The rules of one service. allow_private: allow addresses that are not public. allow_loopback: allow this machine,
    also without TLS.
    """

    def __init__(self, *, allow_private: bool, allow_loopback: bool) -> None:
        self._allow_private = allow_private
        self._allow_loopback = allow_loopback
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="webhook-names")

    def close(self) -> None:
        """Start no more lookups."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def parsed(self, text: str) -> httpx.URL:
        """Parse a URL. Raises WebhookUrlError if no webhook may be sent to it, whatever its host resolves to."""
        if not _TEXT.fullmatch(text):
            raise WebhookUrlError("A webhook URL must be printable ASCII of at most 2,000 characters.")
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, ValueError) as error:
            raise WebhookUrlError("This is not a valid URL.") from error
        if url.userinfo:
            raise WebhookUrlError(
                "A webhook URL must not contain a user name or password. Verify the signature of deliveries instead."
            )
        host = url.raw_host.decode()
        if not (_NAME.fullmatch(host) or _address(host)) or not 0 < _port(url) < 2**16:
            raise WebhookUrlError(
                "A webhook URL needs a host name or address, and its port must be between 1 and 65535."
            )
        if url.scheme != "https" and not (self._allow_loopback and _names_loopback(host)):
            raise WebhookUrlError("A webhook URL must begin with https://.")
        return url

    async def addresses(self, url: httpx.URL) -> list[str]:
        """The addresses of the URL's host. Raises WebhookUrlError if there are none or one is not allowed."""
        host = url.raw_host.decode()
        look_up = asyncio.get_running_loop().run_in_executor(
            self._threads, socket.getaddrinfo, host, _port(url), socket.AF_UNSPEC, socket.SOCK_STREAM
        )
        try:
            found = list(dict.fromkeys(str(entry[4][0]) for entry in await look_up))
        except (OSError, UnicodeError) as error:
            raise WebhookUrlError("The host of the webhook URL cannot be found. Check its name.") from error
        if not found or not all(self._allowed(address, url) for address in found):
            raise WebhookUrlError(
                "The host of the URL is not on the public Internet. Use a public host; the operator can allow others "
                "with VERIDASK_WEBHOOK_ALLOW_PRIVATE=true."
            )
        return found

    def _allowed(self, address: str, url: httpx.URL) -> bool:
        loopback = self._allow_loopback and ipaddress.ip_address(address).is_loopback
        return loopback or (url.scheme == "https" and (self._allow_private or is_public(address)))


def _port(url: httpx.URL) -> int:
    default = 443 if url.scheme == "https" else 80
    return default if url.port is None else url.port


def _address(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _names_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback
