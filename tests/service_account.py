"""A service account's key as Google Cloud gives it out, whose tokens are asked for at a server of the test's."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

EMAIL = "worker@clinic-1234.iam.gserviceaccount.com"
PROJECT = "clinic-1234"


def service_account_key(base_url: str, **changes: Any) -> str:
    return json.dumps(
        {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "9e5f3c",
            "private_key": _private_key(),
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": f"{base_url}/token",
            "universe_domain": "googleapis.com",
            **changes,
        }
    )


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
