"""Failures of the connection and statuses of HTTP, turned into errors that name the cause and the cure. Pure.

Addresses are told without user, password and query: what is told here reaches a language model.
"""

import errno
import os
import re
import ssl
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import httpx2

from mcp_image_gen_local.domain.errors import (
    EngineAnswerUnusable,
    EngineRefused,
    EngineStalled,
    EngineUnreachable,
    ImageGenError,
)
from mcp_image_gen_local.domain.text import MAX_NAME, clean
from mcp_image_gen_local.engines.comfyui.transport import Reply, TooLarge

IS_COMFYUI = "COMFYUI_URL must be the address of ComfyUI itself, not of a login page or another program."
CREDENTIALS = "Set COMFYUI_TOKEN or COMFYUI_HEADERS to what the proxy before ComfyUI expects."
#: A proxy answers, and ComfyUI behind it does not; 520 to 530 are those of Cloudflare's tunnels.
BEHIND = frozenset({502, 503, 504, *range(520, 531)})
#: What servers say on a TLS port to those who speak plain HTTP: nginx, Apache, programs in Go.
PLAIN_TO_TLS = re.compile(rb"(?i)plain http request was sent to https|speaking plain http to|http request to an https")
#: faults of this machine that have nothing to do with ComfyUI
LOCAL_FAULTS = {
    errno.EMFILE: "this process has too many open files. Raise the limit (ulimit -n), or restart this server.",
    errno.ENFILE: "this machine has too many open files. Close programs, or raise the system's limit.",
    errno.ENOBUFS: "this machine has no memory left for connections. Close programs, then call again.",
    errno.ENOMEM: "this machine has no memory left for connections. Close programs, then call again.",
    errno.EACCES: "this machine forbids it. Allow it in the firewall or sandbox.",
    errno.EPERM: "this machine forbids it. Allow it in the firewall or sandbox.",
    errno.EADDRNOTAVAIL: "this machine has no free port or no such network. Check the address in COMFYUI_URL.",
}
#: verification failures of OpenSSL
SELF_SIGNED, EXPIRED, NOT_YET_VALID, OTHER_HOST, OTHER_IP = (18, 19), 10, 9, 62, 64
LOGIN = re.compile(r"(?i)login|log-in|signin|sign-in|auth|sso|session|account|saml|\bcdn-cgi/access")


def offline(url: str) -> EngineUnreachable:
    """Return the error for an address where nothing answers."""
    return EngineUnreachable(f"ComfyUI not reachable at {url}. Start with: python main.py --listen 127.0.0.1")


def stalled(url: str, seconds: float) -> EngineStalled:
    """Return the error for a ComfyUI that takes connections and does not answer, or not to the end."""
    return EngineStalled(
        f"ComfyUI at {url} accepts connections but did not respond within {seconds:g} s.",
        hint="It may be reading a large model; if it hangs, restart it.",
    )


def not_json(address: str) -> EngineAnswerUnusable:
    """Return the error for a reply that ComfyUI never gives."""
    return EngineAnswerUnusable(f"{address} answered something other than ComfyUI's JSON.", hint=IS_COMFYUI)


def speaks_https(url: str) -> EngineAnswerUnusable:
    """Return the error for plain HTTP that is spoken to a TLS port."""
    https = "https" + url.removeprefix("http")
    return EngineAnswerUnusable(f"{url} speaks https, not plain http.", hint=f"Use {https} in COMFYUI_URL.")


def of_error(error: Exception, url: str, path: str = "") -> ImageGenError:
    """Return what a failed request means."""
    if isinstance(error, TooLarge):
        return EngineAnswerUnusable(f"{url}{path} answered with {error}.", hint=IS_COMFYUI)
    if isinstance(error, httpx2.DecodingError):
        return EngineAnswerUnusable(
            f"{url}{path} answered in a compression that cannot be read.",
            hint="Let the proxy before ComfyUI pass answers on as they are.",
        )
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return _of_tls(cause, url)
        if isinstance(cause, OSError) and cause.errno in LOCAL_FAULTS:
            reason = f"{LOCAL_FAULTS[cause.errno]} ({os.strerror(cause.errno)})"
            return EngineUnreachable(f"No connection to ComfyUI at {url} can be opened: {reason}")
    return offline(url)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and all that led to it; anyio puts those of several addresses into a group."""
    seen: list[BaseException | None] = [None]
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or error in seen:
            continue
        seen.append(error)
        yield error
        waiting += [error.__context__, error.__cause__]
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions


def _of_tls(error: ssl.SSLError, url: str) -> ImageGenError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, url)
    plain = "http" + url.removeprefix("https")
    reason = clean(error.reason or error.strerror or type(error).__name__)
    return EngineAnswerUnusable(
        f"{url} does not speak https as it should ({reason}).",
        hint=f"If it speaks plain http, as ComfyUI does by itself, use {plain} in COMFYUI_URL.",
    )


def _untrusted(error: ssl.SSLCertVerificationError, url: str) -> ImageGenError:
    reason = clean(error.verify_message or error.reason)
    if error.verify_code in (OTHER_HOST, OTHER_IP) or "mismatch" in reason.lower():
        return EngineAnswerUnusable(
            f"The certificate of {url} is for another host name ({reason}).",
            hint="Use the name that stands in the certificate in COMFYUI_URL, or issue a certificate for this one.",
        )
    if error.verify_code in (EXPIRED, NOT_YET_VALID):
        return EngineAnswerUnusable(
            f"The certificate of {url} is not trusted: {reason}.",
            hint="Renew the certificate, and check the clocks of both machines.",
        )
    return EngineAnswerUnusable(
        f"The certificate of {url} is not trusted: {reason}.",
        hint="Set SSL_CERT_FILE to a PEM file that holds it, or the authority that issued it, and restart this server.",
    )


def is_of_the_way(status: int) -> bool:
    """Return True for a status that says nothing of what was asked for, but of the way to ComfyUI."""
    return 300 <= status < 400 or status in (401, 403, 407) or status in BEHIND


def of_status(reply: Reply, url: str, path: str) -> ImageGenError | None:
    """Return what a status other than 200 means; None for 200."""
    status = reply.status
    if status == 200:
        return None
    if status in (401, 403, 407):
        return EngineRefused(f"{url} refused access (HTTP {status}).", hint=CREDENTIALS)
    if 300 <= status < 400:
        return _redirected(reply, url, path)
    if status in BEHIND:
        return EngineUnreachable(
            f"A proxy answers at {url} (HTTP {status}), but ComfyUI behind it does not.",
            hint="ComfyUI is stopped, or still starting: start it, or wait and call again.",
        )
    if url.startswith("http:") and PLAIN_TO_TLS.search(reply.body[:10_000]):
        return speaks_https(url)
    return EngineAnswerUnusable(
        f"{url}{path} answered HTTP {status}.", hint="Is COMFYUI_URL the address of ComfyUI itself? Its log says more."
    )


def _redirected(reply: Reply, url: str, path: str) -> ImageGenError:
    try:
        target = urlsplit(urljoin(url + path, reply.location))
        host = f"{target.scheme}://{target.hostname}" + (f":{target.port}" if target.port else "")
        base = host + target.path.removesuffix(path) if target.path.endswith(path) else host
    except ValueError:
        return EngineAnswerUnusable(f"{url}{path} redirects to nowhere (HTTP {reply.status}).", hint=IS_COMFYUI)
    host, base, told = clean(host, MAX_NAME), clean(base, MAX_NAME), f"{url} redirects to"
    is_login = bool(LOGIN.search(target.path))
    if url.startswith("http:") and target.scheme == "https" and not is_login:
        return EngineAnswerUnusable(f"{told} {host} (HTTP {reply.status}).", hint=f"Use {base} in COMFYUI_URL.")
    if reply.status in (301, 308) and not is_login:
        return EngineAnswerUnusable(
            f"{told} {host} (HTTP {reply.status}).", hint="Set COMFYUI_URL to the address of ComfyUI itself."
        )
    return EngineRefused(f"{url} refused access: it redirects to {host} (HTTP {reply.status}).", hint=CREDENTIALS)
