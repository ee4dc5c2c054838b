"""Link type names and numbers against the installed libpcap."""

from __future__ import annotations

import pytest

from skep.capture import linktypes
from tests.capture import offline
from tests.capture.build import pcap_header


@pytest.mark.oracle
def test_names_and_descriptions() -> None:
    lib = offline.library()
    known = 0
    for number in range(400):
        name = lib.pcap_datalink_val_to_name(number)
        if name is None:
            continue
        known += 1
        assert linktypes.name(number) == name.decode()
        assert linktypes.description(number) == lib.pcap_datalink_val_to_description(number).decode()
        assert linktypes.by_name(name.decode().lower()) == number
        assert linktypes.by_name("dlt_" + name.decode()) == number
    assert known > 150


@pytest.mark.oracle
def test_file_numbers() -> None:
    for number in range(400):
        assert linktypes.from_file(number) == offline.read(pcap_header("<", 0xA1B2C3D4, link=number)).linktype


def test_unknown_ones() -> None:
    assert linktypes.name(4000) == "4000"
    assert linktypes.description(4000) == ""
    assert linktypes.by_name("no such thing") is None
    assert linktypes.by_name("I2C_LINUX") == linktypes.by_name("IPMB_LINUX") == 209
    assert linktypes.by_name("USER0") == 147


def test_there_and_back() -> None:
    for number in range(400):
        dlt = linktypes.from_file(number)
        assert linktypes.from_file(linktypes.to_file(dlt)) == dlt
