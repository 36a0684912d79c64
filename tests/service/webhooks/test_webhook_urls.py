"""Which URLs webhooks may go to: nothing inside the network that the service runs in, whatever it is called."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.assembly import webhook_destinations
from service.errors import WebhookUrlError
from service.settings.settings import Settings
from service.webhooks.destinations import Destinations, is_public

PUBLIC = Destinations(allow_private=False, allow_loopback=False)
ON_LOOPBACK = Destinations(allow_private=False, allow_loopback=True)
PRIVATE = Destinations(allow_private=True, allow_loopback=False)
INSIDE = [
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "127.0.0.1",
    "0.0.0.0",  # noqa: S104
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fec0::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:a9fe:a9fe::1",
]


@pytest.mark.parametrize("address", INSIDE)
async def test_addresses_inside_are_refused(address: str) -> None:
    assert not is_public(address)
    host = f"[{address}]" if ":" in address else address
    url = PUBLIC.parsed(f"https://{host}/hooks")
    with pytest.raises(WebhookUrlError, match="ALLOW_PRIVATE"):
        await PUBLIC.addresses(url)
    assert await PRIVATE.addresses(url) == [address]


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:4700:4700::1111", "::ffff:93.184.215.14", "2002:5db8:d70e::1"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_what_is_not_public_is_not_so_inside_another_address(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    public = is_public(str(address))
    for carrier in (0xFFFF << 32 | number, 0x2002 << 112 | number << 80, 0x64FF9B << 96 | number):
        assert is_public(str(ipaddress.IPv6Address(carrier))) == public
    if any(
        address in ipaddress.ip_network(net)
        for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4")
    ):
        assert not public


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::ffff:127.0.0.1]"])
async def test_other_names_of_this_machine_are_refused(host: str) -> None:
    with pytest.raises(WebhookUrlError):
        await PUBLIC.addresses(PUBLIC.parsed(f"https://{host}/"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "https:///hooks",
        "https://:443/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://example.org/",
        "http://10.0.0.1/",
        "https://user@example.org/",
        "https://user:password@example.org/",
        "https://:password@example.org/",
        "https://example.org:0/",
        "https://example.org:70000/",
        "https://example.org\\@127.0.0.1/",
        "https://exa mple.org/",
        "https://example.org/\r\nX: y",
        "https://example.org/é",
        "https://a..b/",
        "https://.example.org/",
        "https://%31/",
        "https://[::1/",
        "https://" + "a" * 3000,
    ],
)
def test_malformed_and_unsafe_urls_are_refused(text: str) -> None:
    for destinations in (PUBLIC, ON_LOOPBACK, PRIVATE):
        with pytest.raises(WebhookUrlError):
            destinations.parsed(text)


@given(st.one_of(st.text(), st.from_regex(r"https?://[!-~]{0,30}", fullmatch=True)))
@example("https://[v1.x]/")
@example("https://xn--/")
def test_any_text_is_a_safe_url_or_refused(text: str) -> None:
    try:
        url = PUBLIC.parsed(text)
    except WebhookUrlError:
        return
    assert url.scheme == "https"
    assert url.host
    assert not url.userinfo
    assert "@" not in url.netloc.decode()


async def test_a_host_without_an_address_is_refused() -> None:
    with pytest.raises(WebhookUrlError, match="cannot be found"):
        await PUBLIC.addresses(PUBLIC.parsed("https://nobody.invalid/"))
    with pytest.raises(WebhookUrlError, match="cannot be found"):
        await PUBLIC.addresses(PUBLIC.parsed(f"https://{'a' * 80}.example/"))


async def test_this_machine_may_be_named_where_the_service_binds_loopback() -> None:
    for text in ("http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]:9/", "https://127.0.0.1:9/"):
        assert await ON_LOOPBACK.addresses(ON_LOOPBACK.parsed(text))
    for destinations in (PUBLIC, PRIVATE):
        with pytest.raises(WebhookUrlError, match="https"):
            destinations.parsed("http://127.0.0.1:9/")
    with pytest.raises(WebhookUrlError, match="ALLOW_PRIVATE"):
        await ON_LOOPBACK.addresses(ON_LOOPBACK.parsed("https://10.0.0.1/"))


async def test_the_settings_say_which_rules_hold() -> None:
    local, remote = Settings(), Settings(host="0.0.0.0", allow_remote=True)  # noqa: S104
    assert webhook_destinations(local).parsed("http://127.0.0.1:9/")
    with pytest.raises(WebhookUrlError):
        webhook_destinations(remote).parsed("http://127.0.0.1:9/")
    inside = PRIVATE.parsed("https://10.0.0.1/")
    with pytest.raises(WebhookUrlError):
        await webhook_destinations(local).addresses(inside)
    allowed = webhook_destinations(Settings(webhook_allow_private=True))
    assert await allowed.addresses(inside) == ["10.0.0.1"]
