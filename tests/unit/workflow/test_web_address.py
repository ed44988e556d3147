"""Which addresses are public, and which hosts an organization allows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.workflow.web_address import AllowedHosts, address_problem, form_problem, url_problem

NEVER_PUBLIC = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",
    "2001:db8::/32",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]
METADATA = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"]
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "192.0.1.1"]
PUBLIC_V6 = ["2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001::1"]


@given(st.sampled_from(NEVER_PUBLIC), st.data())
def test_no_address_of_a_special_network_is_public(network: str, data: st.DataObject) -> None:
    addresses = ip_network(network)
    offset = data.draw(st.integers(0, addresses.num_addresses - 1))
    assert address_problem(addresses[offset]) is not None


@given(st.ip_addresses())
def test_what_python_knows_not_to_be_global_is_never_public(address: IPv4Address | IPv6Address) -> None:
    if (
        address.is_private
        or address.is_multicast
        or address.is_reserved
        or address.is_loopback
        or address.is_link_local
    ):
        assert address_problem(address) is not None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_an_ipv6_form_is_never_public(address: IPv4Address) -> None:
    value = int(address)
    for form in (0xFFFF << 32 | value, 0x64FF9B << 96 | value, 0x2002 << 112 | value << 80, value):
        assert address_problem(IPv6Address(form)) is not None


@pytest.mark.parametrize("address", METADATA)
def test_the_metadata_services_of_clouds_are_not_public(address: str) -> None:
    assert address_problem(ip_address(address)) is not None


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_V6)
def test_ordinary_addresses_are_public(address: str) -> None:
    assert address_problem(ip_address(address)) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://[::1]:8080/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1%25eth0]/",
        "http://10.1.2.3:9000/path",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://api.localhost/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://printer.local/",
    ],
)
def test_a_url_that_shows_a_private_host_is_refused_and_says_how_to_allow_it(url: str) -> None:
    assert "allowed hosts" in str(url_problem(url))


@pytest.mark.parametrize("url", ["https://api.example.com/v1?x=1", "http://example.com:8080", "https://1.1.1.1/"])
def test_a_url_with_a_public_host_is_accepted(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://example.com/", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("//example.com/", "http:// or https://"),
        ("https:///path", "name a host"),
        ("https://user:secret@example.com/", "user name or password"),
        ("https://example.com:99999/", "not a URL"),
        ("https://example.com:0/", "Port 0"),
        ("https://[::1/", "not a URL"),
    ],
)
def test_what_is_no_url_of_the_web_is_refused_wherever_it_leads(url: str, problem: str) -> None:
    assert problem in str(form_problem(url))
    assert "secret" not in str(url_problem(url))


def test_an_allowed_host_is_allowed_by_exact_name_and_on_its_port_only() -> None:
    allowed = AllowedHosts.of(["crm.internal", "10.0.0.5:8080", "[fd00::1]:80", "fd00::2", "Bücher.example"])
    permitted = [
        ("CRM.internal.", 443),
        ("10.0.0.5", 8080),
        ("fd00::1", 80),
        ("fd00:0::0:2", 9),
        ("xn--bcher-kva.example", 1),
    ]
    assert all(allowed.permits(host, port) for host, port in permitted)
    refused = [("10.0.0.5", 80), ("x.crm.internal", 443), ("fd00::1", 81), ("internal", 443), ("", 80)]
    assert not any(allowed.permits(host, port) for host, port in refused)


def test_a_port_is_not_mistaken_for_a_part_of_an_address() -> None:
    assert not AllowedHosts.of(["[::1]:80"]).permits("::1:80", 443)


def test_an_allowed_host_may_stand_in_a_url() -> None:
    allowed = AllowedHosts.of(["localhost:8080"])
    assert url_problem("http://localhost:8080/hook", allowed) is None
    assert url_problem("http://localhost/hook", allowed) is not None
    assert url_problem("http://localhost/hook", AllowedHosts.of(["localhost:80"])) is None


@pytest.mark.parametrize(
    "entry", ["", "http://example.com", "*.example.com", "a b", "host:", "host/path", "u@host", ":80"]
)
def test_an_entry_that_is_no_host_is_refused_and_quoted(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host") as refused:
        AllowedHosts.of([entry])
    assert repr(entry) in str(refused.value)
