"""Who may ask the server for something, and how much may be sent: checked before any route.

A page of a stranger that the user's browser shows may send requests to 127.0.0.1 too. So the host that a request names
must be one of this server's (else a stranger's name could be made to point here), its origin, where a browser names
one, must be the server itself, and whoever comes from other machines needs the token.
"""

import hashlib
import http.cookies
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException
from starlette.responses import JSONResponse

AsgiScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

COOKIE = "levelground_token"

PAGE_POLICY = "default-src 'self'; img-src 'self' blob:; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
"""Content security policy of everything but the report, which brings its own scripts."""


@dataclass(frozen=True)
class Access:
    """Who may ask, and how much they may send.

    Attributes:
        host: Address that the server listens on.
        token: Secret that clients send; ``None`` asks for none.
        max_bytes: Largest body of a request.
    """

    host: str
    token: str | None
    max_bytes: int

    @property
    def local(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "example.org")]
        [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _split(address: str) -> tuple[str, str]:
    """Return the name and the whole place of an address; empty texts where it is none."""
    try:
        found = urlsplit(address)
        return found.hostname or "", found.netloc
    except ValueError:
        return "", ""


def _cookie_of(token: str) -> str:
    """Return what a browser keeps for a token: a hash, which any token may be turned into and none can be read from."""
    return hashlib.sha256(f"levelground {token}".encode()).hexdigest()


class Guard:
    """Middleware that refuses requests before any route sees them, and bounds their bodies while they stream."""

    def __init__(self, app: App, access: Access) -> None:
        """Guard ``app``."""
        self._app, self._access = app, access

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            status, text = refusal
            extra = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
            await JSONResponse({"detail": text}, status, headers=extra)(scope, receive, send)
            return
        await self._app(scope, self._bounded(receive), self._with_headers(scope, send))

    def _refusal(self, scope: AsgiScope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = _split(f"//{host}")[0]
        if self._access.local and not is_loopback(name):
            return 400, f"{host}: is not an address of this server. Open it as http://127.0.0.1:PORT."
        origin = headers.get("origin")
        if origin is not None and _split(origin)[1] != host:
            return 403, f"{origin}: another site may not use this server."
        if not self._has_token(scope, headers):
            return 401, "A token is needed: send the header 'Authorization: Bearer TOKEN', or open /?token=TOKEN once."
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._access.max_bytes:
            return 413, self._too_large()
        return None

    def _has_token(self, scope: AsgiScope, headers: dict[str, str]) -> bool:
        if self._access.token is None:
            return True
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        cookie = http.cookies.SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        wanted = self._access.token.encode()
        if cookie is not None and secrets.compare_digest(
            cookie.value.encode(), _cookie_of(self._access.token).encode()
        ):
            return True
        given = (headers.get("authorization", "").removeprefix("Bearer "), asked)
        return any(secrets.compare_digest(one.encode(), wanted) for one in given)

    def _too_large(self) -> str:
        return (
            f"The body is larger than {self._access.max_bytes / 1e6:.0f} MB. Put the raster into the server's folder."
        )

    def _bounded(self, receive: Receive) -> Receive:
        """Count the bytes of a body while they arrive."""
        seen = 0

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._access.max_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return bounded

    def _with_headers(self, scope: AsgiScope, send: Send) -> Send:
        """Add security headers to every answer, and after a token in the address a cookie for the page's requests."""
        own = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        if asked and self._access.token is not None:
            own["set-cookie"] = f"{COOKIE}={_cookie_of(self._access.token)}; Path=/; HttpOnly; SameSite=Strict"

        async def added(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra = own | (
                    {} if b"content-security-policy" in present else {"content-security-policy": PAGE_POLICY}
                )
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in extra.items())]
            await send(message)

        return added
