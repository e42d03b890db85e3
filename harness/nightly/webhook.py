"""Tell another program of a night: one POST of JSON, which never decides anything."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from harness.errors import UsageError

TIMEOUT_S = 10.0


def require_webhook(url: str) -> str:
    """Return a URL that can be posted to. Raises `UsageError`, which never repeats the URL: it may hold a secret."""
    try:
        parts = urlsplit(url)  # which drops line breaks, and reads a port only when asked
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and url.isascii() and url.isprintable() and " " not in url  # HTTP could not send it
        has_user = parts.username is not None
    except ValueError:
        usable = has_user = False
    if has_user:
        raise UsageError(
            "Invalid value for --webhook: it holds a user name, which is not sent.",
            "Pass a URL without one, such as https://host/path?token=TOKEN.",
        )
    if not usable:
        raise UsageError(
            "Invalid value for --webhook: it is not an http or https URL.",
            "Pass a complete URL, such as https://host/path.",
        )
    return url


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would ask another host by GET, without the report."""

    def redirect_request(self, *_: object) -> None:
        """Refuse, so that the redirect is an `HTTPError`."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def post(url: str, payload: Mapping[str, object], *, timeout_s: float = TIMEOUT_S) -> str:
    """Post JSON and return what became of it in one sentence, without the URL's path. Never raises, never waits longer.

    The limit holds for all of it: a host that answers one byte at a time is left behind.
    """
    host = urlsplit(url).hostname
    said = [f"The webhook on {host} did not answer within {timeout_s:g} s."]

    def send() -> None:
        request = urllib.request.Request(  # noqa: S310 - http and https alone, see require_webhook
            url, json.dumps(payload).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with _OPENER.open(request, timeout=timeout_s) as answer:
                said[0] = f"The webhook on {host} accepted the report ({answer.status})."
        except urllib.error.HTTPError as error:
            redirects = 300 <= error.code < 400  # noqa: PLR2004 - HTTP's redirects
            did = "redirected the report instead of accepting it" if redirects else "refused"
            said[0] = f"The webhook on {host} {did} ({error.code})."
        except OSError as error:
            reason = getattr(error, "reason", error)
            if not isinstance(reason, TimeoutError):  # then what was said at first holds
                said[0] = f"The webhook on {host} could not be reached ({type(reason).__name__})."
        except Exception as error:  # whatever it is: the night is done and must not fail by it
            said[0] = f"The webhook on {host} could not be notified ({type(error).__name__})."

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return said[0]
