"""Who is served where no keys are configured: this machine, and the front of this Ray cluster.

The header alone proves nothing, since anybody who reaches the port can send it; together with the
address of a Ray node it says that the request passed the front, which binds loopback unless told
otherwise.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address

from rayserve_par.serving.admission.refusal import Refusal

FRONT_HEADER = b"x-rayserve-par-front"

CLOSED = Refusal(
    403,
    "This server has no API keys and so serves its own machine only. Its operator can add keys "
    "(`rayserve-par keys new NAME --file FILE` and `admission: {keys_file: FILE}`) or set "
    "`admission: {open: true}` to serve everybody who reaches it.",
    code="keys_required",
)


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether `host` is this machine; an IPv4 address inside IPv6 counts as itself."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def may_pass_without_keys(
    client: tuple[str, int] | None, from_front: bool, node_addresses: Collection[str]
) -> bool:
    """Whether a request from `client` (None: a Unix socket) is served where there are no keys."""
    if client is None or is_loopback(client[0]):
        return True
    return from_front and client[0].removeprefix("::ffff:") in node_addresses
