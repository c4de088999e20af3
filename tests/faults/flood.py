"""`python -m tests.faults.flood URI EVENTS UUID…`: makes libvirt send that many events, from as many threads as there are domains, and ends.

Each domain is suspended and resumed in turn, and ends RUNNING. Prints how many events this connection itself has heard.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import libvirt

from tests.beds.wait import wait_until


def main(uri: str, events: int, uuids: list[str]) -> None:
    """Flood, and return once libvirt has delivered all of it."""
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_dispatch, daemon=True).start()
    listening = libvirt.open(uri)
    heard: list[int] = []
    listening.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda *_: heard.append(1), None)
    threads = [threading.Thread(target=_toggle, args=(uri, uuid, events // len(uuids) // 2)) for uuid in uuids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(heard) >= events, f"{events} events to arrive, {len(heard)} have")
    print(len(heard))


def _dispatch() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _toggle(uri: str, uuid: str, times: int) -> None:
    # A connection carries one call at a time.
    domain: Any = libvirt.open(uri).lookupByUUIDString(uuid)
    for _ in range(times):
        domain.suspend()
        domain.resume()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
