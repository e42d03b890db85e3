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
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            "Invalid value for --webhook: it is not an http or https URL.",
            "Pass a complete URL, such as https://host/path.",
        )
    return url


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
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
                said[0] = f"The webhook on {host} accepted the report ({answer.status})."
        except urllib.error.HTTPError as error:
            said[0] = f"The webhook on {host} refused ({error.code})."
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
