"""`observer status`: the page, in a terminal. It asks the running service over HTTP and knows nothing by itself."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.markup import escape

from observer import settings as observer_settings
from observer.errors import EXIT_FOUND, EXIT_OK, ObserverError, UsageError
from observer.status.health import CRITICAL
from observer.status.tables import tables
from observer.terminal import STYLES, console_of, drawn

TIMEOUT_S = 5.0
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class NoAnswer(ObserverError):
    """The service does not answer."""

    exit_code = EXIT_FOUND


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer status`."""
    parser.add_argument("--url", metavar="URL", help="where the service answers; else [http] listen of the configuration")
    parser.add_argument("--json", action="store_true", help="print the JSON of /status for a program")


def run(args: argparse.Namespace) -> int:
    """Show how the service is; 1 when it does not answer or something is critical."""
    status = fetch(args.url or configured_url(args.config))
    if args.json:
        sys.stdout.write(json.dumps(status, indent=1, ensure_ascii=False) + "\n")
    else:
        show(status, console_of(sys.stdout))
    return EXIT_FOUND if status["summary"]["level"] == CRITICAL else EXIT_OK


def configured_url(config_option: str | None) -> str:
    """The address of `[http] listen`, as seen from this host."""
    host, port = observer_settings.load(config_option, os.environ, Path.cwd()).config.http.address
    host = _ANYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def fetch(url: str) -> dict[str, Any]:
    """The `/status` of the service at ``url``.

    Raises:
        NoAnswer: nobody answers there, or not like Observer.
        UsageError: it is no URL.
    """
    address = url.rstrip("/") + "/status"
    hint = "is it running? systemctl status observer, or observer run; --url names another address"
    with requests.Session() as session:
        session.trust_env = False  # a proxy must not answer for a service on this host
        try:
            answer = session.get(address, timeout=TIMEOUT_S)
            answer.raise_for_status()
            status: dict[str, Any] = answer.json()
            said = status["summary"]["sentence"]
        except requests.Timeout as error:
            hint = "the janitor may be stuck: systemctl status observer, journalctl -u observer -e"
            raise NoAnswer(f"{address} does not answer within {TIMEOUT_S:.0f} s", hint) from error
        except requests.ConnectionError as error:
            raise NoAnswer(f"nobody answers at {address}", hint) from error
        except requests.HTTPError as error:
            raise NoAnswer(f"{address} answers {error.response.status_code}", "is that Observer? see [http] listen") from error
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema) as error:
            raise UsageError(f"{url} is no address", "such as http://127.0.0.1:8000") from error
        except (ValueError, KeyError, TypeError) as error:
            raise NoAnswer(f"{address} does not answer like Observer", "see [http] listen") from error
    if not isinstance(said, str):
        raise NoAnswer(f"{address} does not answer like Observer", "see [http] listen")
    return status


def show(status: dict[str, Any], console: Console) -> None:
    """Print ``status``, a `/status` answer."""
    said = status["summary"]
    console.print(escape(said["sentence"]), style=STYLES.get(said["level"], ""))
    if said["hint"]:
        console.print(f"  {escape(said['hint'])}")
    for table in tables(status):
        console.print()
        console.print(drawn(table))
    archive = status["archive"]
    console.print()
    console.print(escape(f"observer {status['version']}, archive {archive['root']} ({archive['rule']})"), style="dim")
