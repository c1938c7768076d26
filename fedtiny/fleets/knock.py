"""Whether somebody at an address speaks as Ray does, told within seconds, without Ray.

Ray itself looks for two minutes, and then ends the process without a reason.
"""

import os
import socket

__all__ = ["absence"]

PATIENCE_S = 3.0
"""Longest time to wait for each of: the connection, and its first answer."""

# Ray's head speaks gRPC, and whoever does answers this greeting of HTTP/2 (RFC 9113, 3.4) with settings of its own.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS = 4


def absence(address: str, patience_s: float = PATIENCE_S) -> str:
    """Why there can be no Ray at HOST:PORT; empty if there may be one."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        return "this is not HOST:PORT"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), patience_s) as line:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return ""  # it waits for a greeting of another kind
            line.sendall(_GREETING)
            answer = line.recv(4, socket.MSG_WAITALL)
    except TimeoutError:
        return f"no answer within {patience_s:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return "" if answer[3:] == bytes((_SETTINGS,)) else "somebody else listens there"
