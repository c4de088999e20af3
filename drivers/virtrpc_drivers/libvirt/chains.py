"""Images that are there already, and are to be used as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from xml.etree import ElementTree

from virtrpc_drivers import images, paths
from virtrpc_drivers.device_xml import MAX_CHAIN
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.values import NamedFile


def check(files: Iterable[str], domain_xml: str, roots: Sequence[str]) -> None:
    """Refuse images of this machine that lead outside the allowed directories, unless to what the domain's disks lie on anyway.

    Raises PATH_NOT_ALLOWED, for what is not to be seen from here as well: in a container that may be there for the hypervisor all the same.
    OPERATION_FAILED for what cannot be looked into.
    """
    known = {os.path.realpath(path) for path in _of_domain(domain_xml)}
    waiting, seen = list(files), set[str]()
    while waiting:
        path = waiting.pop()
        if len(seen) > MAX_CHAIN:
            raise failure(Reason.PATH_NOT_ALLOWED, f"the image {path!r} has more than {MAX_CHAIN} files behind it")
        seen.add(path)
        if why := images.hidden(path):
            raise failure(Reason.PATH_NOT_ALLOWED, f"nobody can tell where the image {path!r} leads: {why}")
        names = [link.path for link in images.links(NamedFile(path=path, format=""))]
        further = [link for link in names if os.path.realpath(link) not in known]
        paths.check(further, roots, local=True)
        waiting += [link for link in further if link not in seen]


def _of_domain(domain_xml: str) -> Iterator[str]:
    for source in ElementTree.fromstring(domain_xml).iterfind("devices/disk//source"):
        yield from (source.attrib[name] for name in ("file", "dev") if name in source.attrib)
