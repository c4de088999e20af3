"""What somebody else has chosen the text of, on lines that a person reads."""

from __future__ import annotations

import logging

import pytest

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.xml import MAX_NAME, definition
from virtrpc_server.telemetry.logs import TEXT, TextFormatter

XML = "<domain type='sim'><name>{}</name><memory>1</memory></domain>"


def test_a_line_of_the_log_is_one_line() -> None:
    """Nothing in it ends it, colours it or writes over it; a traceback has its own lines below it."""
    text = "removed a\n2026 ERROR root: forged\r\x1b[31m\x9b2K\u202e"
    record = logging.LogRecord("virtrpc", logging.INFO, "", 0, "%s", (text,), None)
    line = TextFormatter(TEXT).format(record)
    assert line.isprintable()
    assert r"removed a\n2026 ERROR root: forged\r\x1b[31m\x9b2K\u202e" in line
    record.exc_info = (ValueError, ValueError("x"), None)
    assert TextFormatter(TEXT).format(record).splitlines()[1:] == ["ValueError: x"]


def test_a_name_has_an_end() -> None:
    """It stands in every list, in jobs, and in each line of the audit log that is about its domain."""
    assert definition(XML.format("x" * MAX_NAME)).name == "x" * MAX_NAME
    with pytest.raises(DriverError) as caught:
        definition(XML.format("x" * (MAX_NAME + 1)))
    assert caught.value.reason is Reason.XML_INVALID
