"""Where files lead that a request names: links, images, and what is behind them. On real files, with qemu-img."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from virtrpc_drivers import leads
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.values import FoundFile, NamedFile, Trail

pytestmark = [pytest.mark.hypervisor, pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")]


def made(path: Path, *words: str, kind: str = "qcow2") -> Path:
    """An image."""
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *words, str(path), "1M"], check=True)
    return path


def found(root: Path, path: Path, image: str = "qcow2", *, backing: bool = True) -> list[tuple[str, bool]]:
    """What a file leads to."""
    return [(each.path, each.inside) for each in leads.follow([NamedFile(path=str(path), format=image, backing=backing)], [str(root)], local=True)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The only root."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_a_chain_is_followed_to_its_end(root: Path) -> None:
    """By the formats that it says; what is called raw leads nowhere, whatever it holds."""
    base = made(root / "base")
    middle = made(root / "middle", "-b", str(base), "-F", "qcow2")
    top = made(root / "top", "-b", middle.name, "-F", "qcow2")
    assert found(root, top) == [(str(path), True) for path in (top, middle, base)]
    assert found(root, top, "raw") == [(str(top), True)]
    over_raw = made(root / "over", "-b", str(top), "-F", "raw")
    assert found(root, over_raw) == [(str(over_raw), True), (str(top), True)]


def test_what_lies_outside_is_told_and_not_looked_into(root: Path, tmp_path: Path) -> None:
    """Behind an image, as where its data is, and as what it is itself a link to."""
    outside = made(tmp_path / "outside", "-b", "/etc/shadow", "-F", "raw", "-u")
    over = made(root / "over", "-b", str(outside), "-F", "qcow2")
    assert found(root, over) == [(str(over), True), (str(outside), False)]
    split = made(root / "split", "-o", f"data_file={tmp_path / 'data'},data_file_raw=on")
    assert found(root, split, backing=False) == [(str(split), True), (str(tmp_path / "data"), False)]
    (root / "link").symlink_to(outside)
    assert found(root, root / "link") == [(str(outside), False)]


def test_what_is_no_path_is_outside(root: Path) -> None:
    """Such as what is on the network, or a pipe of QEMU's own notation."""
    for name in ("nbd://127.0.0.1:1/x", 'json:{"driver":"file","filename":"/etc/shadow"}', "file:/etc/shadow"):
        over = made(root / "over", "-b", name, "-F", "raw", "-u")
        assert found(root, over)[1:] == [(name, False)]


def test_where_the_chain_is_told_the_image_is_not_asked(root: Path) -> None:
    """A definition that names what is behind an image leaves nothing to its header."""
    over = made(root / "over", "-b", "/etc/shadow", "-F", "raw", "-u")
    assert found(root, over, backing=False) == [(str(over), True)]


def test_other_formats_have_backing_files_too(root: Path) -> None:
    """qed, and vmdk with its extents."""
    qed = made(root / "qed", "-b", "/etc/shadow", "-F", "raw", "-u", kind="qed")
    assert found(root, qed, "qed") == [(str(qed), True), ("/etc/shadow", False)]
    flat = made(root / "flat.vmdk", "-o", "subformat=monolithicFlat", kind="vmdk")
    assert (str(root / "flat-flat.vmdk"), True) in found(root, flat, "vmdk")


def test_what_is_not_there_leads_nowhere(root: Path) -> None:
    """Nor does what is no image at all, unless it is to be opened; one that is not of its format is refused: nobody knows what is read of it."""
    os.mkfifo(root / "pipe")
    assert [found(root, root / name) for name in ("nothing", "pipe")] == [[(str(root / name), True)] for name in ("nothing", "pipe")]
    (root / "empty").touch()
    for name, reason in (("nothing", Reason.PATH_NOT_ALLOWED), ("empty", Reason.FAILED)):
        asked = NamedFile(path=str(root / name), format="qcow2", opened=True)
        (only,) = leads.follow([asked], [str(root)], local=True)
        assert only.fault is not None
        assert (only.path, only.fault.reason) == (asked.path, reason)
        with pytest.raises(DriverError) as caught:
            leads.hold(Trail(files=(asked,), granted=(asked.path,)), [str(root)], local=True)
        assert caught.value.fault == only.fault


def test_what_an_image_has_qemu_say_is_text(root: Path) -> None:
    """The name of a feature that QEMU does not know comes out of the image: whatever bytes these are, the fault can be told and shown."""
    odd = made(root / "odd")
    data = bytearray(odd.read_bytes())
    data[72:80] = (1 << 40).to_bytes(8, "big")
    table = data.index(bytes.fromhex("6803f857")) + 8
    data[table : table + 48] = bytes([0, 40]) + b"\xff\x1b[31m".ljust(46, b"\0")
    odd.write_bytes(data)
    (file,) = leads.follow([NamedFile(path=str(odd), format="qcow2")], [str(root)], local=True)
    assert file.fault is not None
    assert (file.fault.reason, r"\xff\x1b[31m" in file.fault.message, file.fault.message.isprintable()) == (Reason.FAILED, True, True)


def test_a_chain_that_bites_its_tail_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one request has only so many images looked into."""
    one = made(root / "one", "-b", str(root / "two"), "-F", "qcow2", "-u")
    two = made(root / "two", "-b", str(one), "-F", "qcow2", "-u")
    assert {path for path, _ in found(root, one)} == {str(one), str(two)}
    monkeypatch.setattr(leads, "MAX_IMAGES", 2)
    with pytest.raises(DriverError) as caught:
        found(root, made(root / "three", "-b", str(two), "-F", "qcow2", "-u"))
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED


def test_images_that_take_long_take_one_request_no_longer_than_that(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests write images, and one after another could keep whoever looks for an hour: the rest of the chain is not looked into."""
    over = made(root / "over", "-b", str(made(root / "base")), "-F", "qcow2")
    monkeypatch.setattr(leads, "LOOKING_SECONDS", 0.0)
    with pytest.raises(DriverError, match="took longer than 0 s") as caught:
        found(root, over)
    assert caught.value.reason is Reason.FAILED


def test_on_another_machine_names_are_all_that_is_known(root: Path) -> None:
    """They are told in one form, whatever lies there on this one."""
    over = made(root / "over", "-b", "/etc/shadow", "-F", "raw", "-u")
    asked = NamedFile(path=f"{root}//./{over.name}", format="qcow2")
    assert leads.follow([asked], [str(root)], local=False) == (FoundFile(path=str(over), inside=True, named=asked.path),)


def test_what_has_changed_since_is_refused(root: Path) -> None:
    """Where files lead when a job begins is held against where they led when it was judged."""
    file = NamedFile(path=str(root / "over"), format="qcow2")
    trail = Trail(files=(file,), granted=(file.path,))
    leads.hold(trail, [str(root)], local=True)
    made(root / "over", "-b", "/etc/shadow", "-F", "raw", "-u")
    with pytest.raises(DriverError) as caught:
        leads.hold(trail, [str(root)], local=True)
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    leads.hold(None, [], local=True)


@pytest.mark.parametrize("why", ["this server may not read it", "qemu-img is not installed where this server runs"])
def test_what_cannot_be_looked_into_leads_nowhere_until_it_is_opened(root: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Why is told, since that is what can be mended."""
    over = made(root / "over", "-b", "/etc/shadow", "-F", "raw", "-u")
    if "read" in why:
        monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may read everything
    else:
        monkeypatch.setenv("PATH", "/nowhere")
    assert found(root, over) == [(str(over), True)]
    (opened,) = leads.follow([NamedFile(path=str(over), format="qcow2", opened=True)], [str(root)], local=True)
    assert opened.fault is not None
    assert (opened.fault.reason, why in opened.fault.message) == (Reason.PATH_NOT_ALLOWED, True)
