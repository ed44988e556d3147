"""Where requests that tenants ask for may go: to public addresses, and to the hosts their organization allows by name.

A name says little about where it leads: whoever connects asks `address_problem` of the address it really connects to.
`url_problem` finds what can be told from a URL alone, so that most mistakes show when something is configured.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

IPAddress: TypeAlias = IPv4Address | IPv6Address

# By the IANA registries of special-purpose addresses. Python's own idea of "global" changes with its patch releases.
_SPECIAL_IPV4: Final = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "a carrier's private network"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's own services"),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_GLOBAL_IPV6: Final = ip_network("2000::/3")
_SPECIAL_IPV6: Final = tuple(
    (ip_network(network), what)
    for network, what in (
        ("2001::/23", "reserved, such as Teredo"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4, which leads to an IPv4 address"),
        ("2620:4f:8000::/48", "reserved"),
        ("3fff::/20", "documentation"),
    )
)
# Outside of 2000::/3 nothing is public; these are told apart for the message's sake.
_NOT_GLOBAL_IPV6: Final = tuple(
    (ip_network(network), what)
    for network, what in (
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6 form"),
        ("64:ff9b::/96", "NAT64, which leads to an IPv4 address"),
        ("64:ff9b:1::/48", "NAT64, which leads to an IPv4 address"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
# What is not looked up in the DNS, or only in a private one.
_LOCAL_NAME: Final = re.compile(r"(?:.+\.)?(?:localhost|local|internal|intranet|lan|home|corp|home\.arpa)")
# Whatever inet_aton reads: 127.1, 0x7f000001, 2130706433. System resolvers read these as addresses, too.
_NUMERIC: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def address_problem(address: IPAddress) -> str | None:
    """Say why an address is not public, in a few words, or None if it is."""
    if isinstance(address, IPv4Address):
        return _first(address, _SPECIAL_IPV4)
    if address not in _GLOBAL_IPV6:
        return _first(address, _NOT_GLOBAL_IPV6) or "reserved"
    return _first(address, _SPECIAL_IPV6)


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The hosts an organization may reach wherever they lead, by exact name: `host` for every port, or `host:port`.

    Attributes:
        entries: Host and port of each; None for every port.
    """

    entries: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def of(cls, entries: Iterable[str]) -> AllowedHosts:
        """Read entries.

        Raises:
            ValueError: One of them is no host and no `host:port`; the message quotes it.
        """
        return cls(frozenset(_entry(entry) for entry in entries))

    def permits(self, host: str, port: int) -> bool:
        """Tell whether requests to this host and port are allowed although they may lead to a private address."""
        name = _host(host)
        return (name, None) in self.entries or (name, port) in self.entries


NO_HOSTS: Final = AllowedHosts()
"""The allowed hosts of an organization that was allowed none."""


def url_problem(url: str, allowed: AllowedHosts = NO_HOSTS) -> str | None:
    """Say what is wrong with a URL that a tenant gives, as far as the URL alone tells, or None.

    A name that leads to a private address is found when it is connected to, not here.
    """
    if problem := form_problem(url):
        return problem
    parts = urlsplit(url)
    host = parts.hostname or ""
    if allowed.permits(host, parts.port or _DEFAULT_PORTS[parts.scheme]):
        return None
    why = _host_problem(_host(host))
    return why and f"{host} is not public ({why}). {HOW_TO_ALLOW}"


def form_problem(url: str) -> str | None:
    """Say why a text is no URL that a request could be made to, wherever it leads, or None if it is one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "It is not a URL."
    if parts.scheme not in _DEFAULT_PORTS or not host:
        return "It must begin with http:// or https:// and name a host."
    if "@" in parts.netloc:
        return "It may carry no user name or password. Use a credential instead."
    return "Port 0 cannot be connected to." if port == 0 else None


HOW_TO_ALLOW: Final = "If requests may go there, let the operator add it to the organization's allowed hosts."
"""The end of every message about a refused address."""


def _host_problem(host: str) -> str | None:
    if _LOCAL_NAME.fullmatch(host):
        return "a local name"
    address = _literal(host)
    return None if address is None else address_problem(address)


def _literal(host: str) -> IPAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        pass
    if _NUMERIC.fullmatch(host):
        try:
            return IPv4Address(socket.inet_aton(host))
        except OSError:
            pass
    return None


def _entry(entry: str) -> tuple[str, int | None]:
    text = entry.strip()
    try:
        return IPv6Address(text.strip("[]")).compressed, None
    except ValueError:
        pass
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.netloc != text or text.endswith(":") or re.search(r"[\s*@%]", text):
        raise ValueError(f"{entry!r} is no host. Write a name or an address, and :port after it if only that is meant.")
    return _host(host), port


def _host(host: str) -> str:
    """One form for each host, as a resolver sees it: lower case, no dot at its end, addresses as they are compared."""
    name = host.lower().rstrip(".").strip("[]")
    try:
        return ip_address(name).compressed
    except ValueError:
        pass
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name


def _first(address: IPAddress, networks: Sequence[tuple[IPv4Network | IPv6Network, str]]) -> str | None:
    return next((what for network, what in networks if address in network), None)
