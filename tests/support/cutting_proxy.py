"""A TCP proxy on loopback that cuts connections, as a lost network does."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

_RESET = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Forwards to a port of this machine; a context manager.

    cuts: limits in bytes, one for each connection in turn. A connection that sends more is reset in both directions.
    """

    def __init__(self, port: int, cuts: Sequence[int]) -> None:
        self._port = port
        self.cuts = list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._upwards, args=(client, server), daemon=True).start()
            threading.Thread(target=self._downwards, args=(server, client), daemon=True).start()

    def _upwards(self, client: socket.socket, server: socket.socket) -> None:
        brought = 0
        with client, server, suppress(OSError):
            while content := client.recv(65536):
                brought += len(content)
                if self.cuts and brought > self.cuts[0]:
                    del self.cuts[0]
                    for side in (client, server):
                        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                        with suppress(OSError):
                            side.shutdown(socket.SHUT_RD)  # wakes the other thread
                    return
                server.sendall(content)
            server.shutdown(socket.SHUT_WR)

    def _downwards(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while content := server.recv(65536):
                client.sendall(content)
            client.shutdown(socket.SHUT_WR)
