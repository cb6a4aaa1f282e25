"""What a client accepts: `Accept`, `Accept-Encoding`, `Accept-Language` are lists with weights (RFC 9110 12.4.2)."""

from __future__ import annotations

from functools import lru_cache

MAX_ITEMS = 64  # of a list that are looked at: browsers send less than ten


@lru_cache(256)  # browsers send the same lists with each request
def accepted(header: str) -> tuple[tuple[str, float], ...]:
    """Return the (item, weight) pairs of a list in lower case, the heaviest first; a malformed weight is 0."""
    items = []
    for part in header.split(",", MAX_ITEMS)[:MAX_ITEMS]:
        item, *parameters = part.split(";")
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                weight = _weight(value.strip())
        if item.strip():
            items.append((item.strip().lower(), weight))
    return tuple(sorted(items, key=lambda pair: -pair[1]))


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value <= 1 else 0.0


def best(header: str, offers: tuple[str, ...], default: str) -> str:
    """Return the offer with the greatest weight; among equals one that is named over one that a `*` lets in, then the
    first; `default` if the list has none of them.

    :param offers: media types, in the server's order of preference.
    """
    weights = dict(reversed(accepted(header)))  # of repeated items the heaviest
    chosen, most = default, (0.0, 0)
    for offer in offers:
        names = ("*/*", f"{offer.partition('/')[0]}/*", offer)
        named = max((rank for rank, name in enumerate(names) if name in weights), default=None)
        if named is not None and weights[names[named]] > 0 and (weights[names[named]], named) > most:
            chosen, most = offer, (weights[names[named]], named)
    return chosen
