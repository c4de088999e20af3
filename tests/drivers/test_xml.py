"""What is refused before anything is sent."""

from xml.etree import ElementTree

import pytest

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.xml import MAX_XML_DEPTH, definition, parse


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
