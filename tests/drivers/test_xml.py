"""What is refused before anything is sent."""

import gc
import tracemalloc
from xml.etree import ElementTree

import pytest

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.xml import LARGEST, MAX_XML_DEPTH, definition, integer, memory_bytes, parse


def nested(levels: int) -> str:
    """A definition with elements nested so deep, itself included."""
    return "<domain><name>x</name>" + "<a>" * (levels - 1) + "</a>" * (levels - 1) + "</domain>"


@pytest.mark.parametrize("levels", [MAX_XML_DEPTH + 1, 1_000, 100_000])
def test_deep_nesting_is_refused(levels: int) -> None:
    """Elements that nobody could write again are XML_INVALID, and the message says how deep they may be."""
    with pytest.raises(DriverError, match=f"deeper than {MAX_XML_DEPTH} levels") as caught:
        definition(nested(levels))
    assert caught.value.reason is Reason.XML_INVALID


def test_the_deepest_that_is_accepted() -> None:
    """It is read, given a uuid, and written again."""
    assert parse(definition(nested(MAX_XML_DEPTH)).xml).findtext("name") == "x"
    assert ElementTree.tostring(parse(nested(MAX_XML_DEPTH)))


@pytest.mark.parametrize("given", ["", "<uuid/>", "<uuid>  </uuid>"])
def test_a_uuid_is_put_into_the_text(given: str) -> None:
    """The rest of the definition stays to the letter: comments, prefixes, and what looks like its name or its end."""
    before = "<?xml version='1.0'?><!-- <name>no</name> --><domain a='é>'><metadata><a:x xmlns:a='urn:a'><name>no</name><!-- b --></a:x></metadata>"
    after = "<name>x</name><?pi?></domain>"
    made = definition(f"{before}{given}{after}")
    assert made.xml == f"{before}<uuid>{made.uuid}</uuid>{after}"
    assert made.name == "x"


@pytest.mark.parametrize("end", ["</domain", "</domain>"])
def test_a_text_that_was_read_is_freed_without_a_collection(end: str) -> None:
    """Also where it is malformed: collections are rare in a server that is busy, and a definition may have a megabyte."""
    text = f"<domain><name>x</name><description>{'y' * 900_000}</description>{end}"
    gc.disable()
    tracemalloc.start()
    try:
        try:
            parse(text)
        except DriverError as error:
            assert error.reason is Reason.XML_INVALID  # noqa: PT017 # what holds an error holds its frames
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert left < 100_000


@pytest.mark.parametrize(
    ("text", "size"), [("<m unit='GiB'>1</m>", 1 << 30), ("<m unit='MB'>1</m>", 10**6), ("<m>1</m>", 1024), ("<m unit='x'>1</m>", None)]
)
def test_units(text: str, size: int | None) -> None:
    """libvirt's units; KiB where none is named."""
    assert memory_bytes(parse(text)) == size


@pytest.mark.parametrize(
    "text", ["", "x", "1.5", "1_0", "0x10", "\N{ARABIC-INDIC DIGIT THREE}", str(LARGEST + 1), "9" * 5000, None], ids=lambda text: str(text)[:24]
)
def test_what_is_no_number_is_none(text: str | None) -> None:
    """Neither is one that no field of the contract holds, nor a size of so many bytes."""
    assert integer(text) is None
    assert memory_bytes(parse(f"<m unit='b'>{text}</m>")) is None


def test_numbers() -> None:
    """Up to the largest that fits, signs and blanks around them included."""
    assert [integer(text) for text in ("0", " 7\n", "-1", "+3", str(LARGEST))] == [0, 7, -1, 3, LARGEST]
    assert memory_bytes(parse(f"<m>{LARGEST}</m>")) is None
