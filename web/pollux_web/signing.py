"""Signed values: text with the time of its making, that only holders of the secret can make.

Decided: the formats are Tornado's versions 1 and 2, so that cookies outlive a change of framework; the HMAC and its
comparison in constant time are itsdangerous's, which is what Flask signs with.

* Version 2: `2|1:0|10:1300000000|4:name|12:dmFsdWU=|<HMAC-SHA256, hex>`. Each field has its length before it: format
  version, key version, time, name, value (base64), signature of everything before it. So neither name nor value can
  be shifted into the other.
* Version 1: `<value, base64>|<time>|<HMAC-SHA1, hex>`, signed is name, value and time without anything between them.
  A value signed for the name "ab" + X is also one for "ab" if X is base64: it is only read if `min_version=1` says so.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from pollux.errors import MissingExtraError
from pollux.log import gen_log

DEFAULT_VERSION = 2
DEFAULT_MIN_VERSION = 2  # Tornado: 1
MAX_AGE_DAYS = 31.0

_DAY = 86400
_HEX_SHA256 = 64  # characters of a version 2 signature

Secret = str | bytes | Mapping[int, str | bytes]


def create_signed_value(
    secret: Secret,
    name: str,
    value: str | bytes,
    version: int | None = None,
    clock: Callable[[], float] = time.time,
    key_version: int | None = None,
) -> bytes:
    """Sign a value.

    :param secret: a long random text; or several, by key version, for rotation (format version 2 only).
    :param name: is signed with the value: one made for a name is refused for another.
    :param version: of the format, 1 or 2; None for 2.
    :param key_version: of the secret to sign with, if there are several.
    :raises ValueError: the version is unknown, or the key version missing or unknown.
    """
    timestamp = str(int(clock())).encode()
    encoded = base64.b64encode(_bytes(value))
    version = DEFAULT_VERSION if version is None else version
    if version == 1:
        if isinstance(secret, Mapping):
            raise ValueError("version 1 of signed values knows no key versions: pass one secret")
        return b"|".join([encoded, timestamp, _sign(secret, name.encode() + encoded + timestamp, hashlib.sha1)])
    if version != 2:
        raise ValueError(f"signed values have version 1 or 2, got {version!r}")
    if isinstance(secret, Mapping):
        if key_version is None or key_version not in secret:
            raise ValueError(f"there is no secret of key version {key_version!r}, only of {sorted(secret)}")
        secret = secret[key_version]
    fields = [str(key_version or 0).encode(), timestamp, name.encode(), encoded]
    signed = b"|".join([b"2", *[b"%d:%b" % (len(field), field) for field in fields], b""])
    return signed + _sign(secret, signed, hashlib.sha256)


def decode_signed_value(
    secret: Secret,
    name: str,
    value: str | bytes | None,
    max_age_days: float = MAX_AGE_DAYS,
    clock: Callable[[], float] = time.time,
    min_version: int | None = None,
) -> bytes | None:
    """Return the value that was signed for `name`, or None if it is not one: forged, expired, malformed, too old a
    format.

    :param max_age_days: since it was signed.
    :param min_version: of the format; None for 2.
    :raises ValueError: `min_version` is above 2.
    """
    min_version = DEFAULT_MIN_VERSION if min_version is None else min_version
    if min_version > 2:
        raise ValueError(f"signed values have version 1 or 2, got min_version={min_version}")
    if not value:
        return None
    data = _bytes(value)
    if data.startswith(b"2|"):
        return _decode_v2(secret, name, data, max_age_days, clock)
    if min_version > 1 or isinstance(secret, Mapping):
        return None
    return _decode_v1(secret, name, data, max_age_days, clock)


def get_signature_key_version(value: str | bytes) -> int | None:
    """Return the key version that a signed value says it was signed with, None if it is not of version 2.

    It is not verified: use it only for what cannot do harm.
    """
    parts = _parts_v2(_bytes(value))
    return parts[0] if parts else None


def _decode_v2(secret: Secret, name: str, data: bytes, max_age_days: float, clock: Callable[[], float]) -> bytes | None:
    parts = _parts_v2(data)
    if parts is None:
        return None
    key_version, timestamp, signed_name, encoded, signature = parts
    if isinstance(secret, Mapping):
        if key_version not in secret:
            return None
        secret = secret[key_version]
    if not _verify(secret, data[: -len(signature)], signature, hashlib.sha256):
        return None
    if signed_name != name.encode() or timestamp < clock() - max_age_days * _DAY:
        return None
    return _decode_base64(encoded)


def _parts_v2(data: bytes) -> tuple[int, int, bytes, bytes, bytes] | None:
    """Return key version, time, name, value and signature; None if it is malformed."""
    version, _, rest = data.partition(b"|")
    fields = []
    for _ in range(4):
        length, colon, rest = rest.partition(b":")
        if not (colon and length.isdigit() and len(length) < 8):
            return None
        size = int(length)
        if rest[size : size + 1] != b"|":
            return None
        fields.append(rest[:size])
        rest = rest[size + 1 :]
    key_version, timestamp, name, value = fields
    if version != b"2" or len(rest) != _HEX_SHA256 or not (_is_number(key_version) and _is_number(timestamp)):
        return None
    return int(key_version), int(timestamp), name, value, rest


def _decode_v1(
    secret: str | bytes, name: str, data: bytes, max_age_days: float, clock: Callable[[], float]
) -> bytes | None:
    parts = data.split(b"|")
    if len(parts) != 3:
        return None
    encoded, timestamp, signature = parts
    if not _verify(secret, name.encode() + encoded + timestamp, signature, hashlib.sha1):
        return None
    now = clock()
    # Digits moved from the value to the time, or zeros before it, would leave the signature as it is.
    if not _is_number(timestamp) or timestamp.startswith(b"0") or int(timestamp) > now + MAX_AGE_DAYS * _DAY:
        gen_log.warning("A signed value of version 1 has the impossible time %r: tampered with?", timestamp[:20])
        return None
    return _decode_base64(encoded) if int(timestamp) >= now - max_age_days * _DAY else None


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) < 20


def _decode_base64(encoded: bytes) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None


def _algorithm(digest: Any) -> Any:
    try:
        from itsdangerous.signer import HMACAlgorithm
    except ImportError as error:
        raise MissingExtraError("signed cookies need itsdangerous: pip install 'pollux[web]'") from error
    return HMACAlgorithm(digest)


def _sign(secret: str | bytes, data: bytes, digest: Any) -> bytes:
    signature: bytes = _algorithm(digest).get_signature(_bytes(secret), data)
    return signature.hex().encode()


def _verify(secret: str | bytes, data: bytes, signature: bytes, digest: Any) -> bool:
    """Compare in constant time."""
    try:
        raw = bytes.fromhex(signature.decode("ascii"))
    except ValueError:
        return False
    return bool(_algorithm(digest).verify_signature(_bytes(secret), data, raw))


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
