"""What a saved image holds."""

from __future__ import annotations

import hashlib

from virtrpc_drivers.errors import Fault
from virtrpc_drivers.values.base import Value


class SaveImage(Value, frozen=True):
    """Whose memory a file holds, and the definition that it comes back with, without secrets."""

    uuid: str
    name: str
    xml: str

    @property
    def digest(self) -> str:
        """What tells this definition from another."""
        return hashlib.sha256(self.xml.encode()).hexdigest()


class NamedFile(Value, frozen=True):
    """A file as a request or an image names it."""

    path: str
    format: str = "raw"
    """How the hypervisor will read it; empty: whatever it holds. A raw one leads nowhere."""
    backing: bool = True
    """Whether it is itself that says what lies behind it."""
    opened: bool = False
    """Whether the hypervisor opens it now, so that it must be there to be looked into."""


class FoundFile(Value, frozen=True):
    """What such a name leads to."""

    path: str
    """Links resolved, below a root by the root's configured name. A text that is no path, such as a URL, is as it was."""
    inside: bool
    """Whether it lies below a root."""
    named: str
    by: str = ""
    """The image that names it; empty: the request."""
    fault: Fault | None = None
    """Why it is not known what lies behind it. Of what is there that tells something: for who may use the file, and nobody else."""

    @property
    def told(self) -> str:
        """What the request's sender may hear of it. An image can name any link of the host's: where that leads is none of its writer's business."""
        return self.named if self.by else self.path


class Trail(Value, frozen=True):
    """The files of a request, and all that they were found to lead to when it was judged."""

    files: tuple[NamedFile, ...] = ()
    granted: tuple[str, ...] = ()
    holds: str = ""
    """The digest of the definition in an image that is restored; empty: it was not looked at."""
