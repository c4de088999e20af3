"""`python -m virtrpc_drivers.process FD`: serves one driver over the socket FD until that socket closes.

Its life is the socket's, whatever the hypervisor does: signals that a terminal or a service manager sends to a whole group
do not end it, since operations may be running that only it can see to their end. Nothing here may import grpc.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable

from virtrpc_drivers import logs
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.protocol import Driver, DriverSettings
from virtrpc_drivers.serving import Serving


def make_driver(settings: DriverSettings, give_up: Callable[[], None]) -> Driver:
    """The driver for a URI: `sim:` is the simulated hypervisor, everything else is libvirt's. `give_up` ends the process."""
    if settings.uri.partition(":")[0] == "sim":
        return _simulated(settings)
    # libvirt looks at it when it is imported. Its esx driver warns of every element that it does not know: dozens of lines with each call.
    os.environ.setdefault("LIBVIRT_DEBUG", "4")
    try:
        from virtrpc_drivers.libvirt.driver import LibvirtDriver
    except ImportError as error:
        raise failure(Reason.UNSUPPORTED, f"libvirt cannot be used here: {error}") from None
    return LibvirtDriver(settings, give_up)


def _simulated(settings: DriverSettings) -> Driver:
    from virtrpc_drivers.sim.driver import SimDriver
    from virtrpc_drivers.sim.options import from_uri
    from virtrpc_drivers.sim.remote import RemoteSim

    daemon = from_uri(settings.uri).daemon
    return RemoteSim(settings, daemon) if daemon else SimDriver(settings, crash=lambda: os._exit(70))


def _exit_when_closed(sock: socket.socket) -> None:
    """Waits for the other end to close, in a thread: a blocked loop must not keep the process alive."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    poll.poll()
    os._exit(0)


async def _serve(sock: socket.socket) -> None:
    await Serving(make_driver, lambda: os._exit(0)).channel.open(sock)
    await asyncio.Event().wait()


def main() -> None:
    """Serve the socket whose descriptor is the only argument; returns never."""
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A handler, not SIG_IGN: an ignored signal would be inherited by the hypervisors that the driver starts.
        signal.signal(number, lambda *_: None)
    logs.begin_in_driver()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    sock.setblocking(False)
    threading.Thread(target=_exit_when_closed, args=(sock,), name="socket-watch", daemon=True).start()
    try:
        asyncio.run(_serve(sock))
    finally:
        logging.shutdown()
        os._exit(1)


if __name__ == "__main__":
    main()
