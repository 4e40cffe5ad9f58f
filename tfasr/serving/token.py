"""Who may ask: those who know a token."""

import hmac
import re
from pathlib import Path

# What a browser may also send as a WebSocket's subprotocol: RFC 7230's token, without quotes.
_TOKEN = re.compile(r"[A-Za-z0-9._~+-]{16,256}")
SCHEME = "bearer "
SUBPROTOCOL = "bearer."
REFUSAL = "this needs the server's token, as the header Authorization: Bearer TOKEN"


def read_token(path: Path) -> str:
    """Reads the token that clients must send.

    Raises:
        ValueError: The file can't be read or holds no token.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise ValueError(f"{path}: must be a file that holds a token; {reason}") from None
    if not _TOKEN.fullmatch(token):
        raise ValueError(
            f"{path}: a token must be 16 to 256 letters, digits, '.', '_', '~', '+' and '-'; "
            f"got {len(token)} characters (`openssl rand -hex 24` makes one)"
        )
    return token


def is_bearer(authorization: str, token: str) -> bool:
    """Whether a header `Authorization` has the token; takes as long wherever they differ."""
    scheme, given = authorization[: len(SCHEME)], authorization[len(SCHEME) :]
    right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    return right and scheme.lower() == SCHEME
