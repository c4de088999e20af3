"""A mirror that is ready and cannot be finished: tried again for a time, told meanwhile, then given up."""

from __future__ import annotations

from dataclasses import dataclass

from virtrpc_drivers.errors import DriverError, Fault, Reason

PATIENCE_SECONDS = 60.0
"""For how long a finish is tried that is refused each time."""
BROKEN_OFF = "it was broken off, and the guest goes on with the image that it had"


@dataclass
class Refusals:
    """What was in the way of a finish, try after try. Seconds of one clock."""

    fault: Fault | None = None
    """At the last try; None where nothing was, or none was due."""
    _since: float | None = None

    def take(self, fault: Fault, now: float) -> bool:
        """One more. Whether that has been going on for too long; a domain that another's job holds is waited for, however long that takes."""
        self.fault = fault
        if fault.reason is Reason.FOREIGN_JOB:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= PATIENCE_SECONDS

    def clear(self) -> None:
        """Nothing is in the way."""
        self.fault = self._since = None


def left_behind(why: str) -> str:
    """What has become of a mirror that could not be broken off either."""
    return (
        f"nor can it be broken off ({why}): it is left READY on the disk, which takes no other block job meanwhile; nothing is lost; "
        "end it at the hypervisor (virsh blockjob), or switch the guest off"
    )


def given_up(disk: str, fault: Fault, became: str) -> DriverError:
    """The error of a block job whose mirror could not be finished, and what has become of that: `BROKEN_OFF`, or `left_behind`."""
    message = f"the block job on disk {disk} was READY and could not be finished: {fault.message}; {became}"
    return DriverError(Fault(reason=Reason.FAILED, message=message, libvirt_code=fault.libvirt_code, libvirt_domain=fault.libvirt_domain))
