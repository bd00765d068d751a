"""Explanations of common install failures, and messages about ports."""

import socket


class Stop(Exception):
    """Ends a target with a message for people instead of a traceback."""


FULL = (
    "The disk is full. The environment takes about 3 GB (several more on Linux without "
    "TORCH_INDEX): make room and repeat the command."
)
OFFLINE = (
    "The network did not answer. Installing needs it once; what is installed works offline. "
    "Check the connection (and the proxy, if there is one) and repeat the command."
)
CERTIFICATE = (
    "The server's certificate could not be verified. Where a proxy adds its own certificate, "
    "tell pip and npm about it (PIP_CERT, NODE_EXTRA_CA_CERTS) and repeat the command."
)
NO_VENV = (
    "This Python cannot make virtual environments. On Debian and Ubuntu install python3-venv "
    "and repeat the command."
)
NO_WHEEL = (
    "A pinned package is not there for this Python or platform (see the line above). "
    "The book is tested with Python 3.11: make book PYTHON=python3.11"
)

# Searched in this order: a lost connection also ends in "No matching distribution found".
SIGNS: list[tuple[str, tuple[str, ...]]] = [
    (FULL, ("No space left on device", "[Errno 28]", "ENOSPC", "Disk quota exceeded", "EDQUOT")),
    (
        CERTIFICATE,
        (
            "CERTIFICATE_VERIFY_FAILED",
            "SELF_SIGNED_CERT_IN_CHAIN",
            "UNABLE_TO_GET_ISSUER_CERT",
            "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
        ),
    ),
    (
        OFFLINE,
        (
            "name resolution",
            "Name or service not known",
            "nodename nor servname",
            "No address associated",
            "NewConnectionError",
            "Failed to establish a new connection",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ProxyError",
            "Network is unreachable",
            "Connection refused",
            "RemoteDisconnected",
            "ENOTFOUND",
            "EAI_AGAIN",
            "ECONNREFUSED",
            "ECONNRESET",
            "ENETUNREACH",
            "ETIMEDOUT",
        ),
    ),
    (NO_VENV, ("ensurepip is not available", "No module named ensurepip", "No module named venv")),
    (NO_WHEEL, ("No matching distribution found", "requires a different Python")),
]


def explain(output: str) -> str | None:
    """The sentence that fits a failed command's output, or None if it is an unknown failure."""
    for message, signs in SIGNS:
        if any(sign in output for sign in signs):
            return message
    return None


def check_port(port: int, target: str) -> None:
    """Raise Stop if something listens on this port of localhost already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Stop(
                f"Port {port} cannot be used ({error.strerror}). "
                f"Choose another: make {target} PORT={port + 1}"
            ) from None


def read_port(text: str, target: str) -> int:
    """PORT as a number, or Stop."""
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise Stop(
            f"PORT is {text!r}, but must be a number from 1024 to 65535: make {target} PORT=8001"
        )
    return int(text)
