from __future__ import annotations

import contextlib
import logging
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.aio import vv
from aiospice.aio.vv import load_vv, parse_vv
from aiospice.client.config import ClientConfig
from aiospice.errors import AddressError

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
MINIMAL = "[virt-viewer]\ntype=spice\nhost=h\nport=5900\n"
# As Proxmox VE makes them.
PROXMOX = (
    "[virt-viewer]\n"
    "tls-port=61000\n"
    "proxy=http://pve.example:3128\n"
    "host=pvespiceproxy:66b1c2d3:100:pve::f9a8b7c6\n"
    "host-subject=OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN=pve.example\n"
    "type=spice\n"
    "title=VM 100 - test\n"
    "ca=" + PEM.strip().replace("\n", "\\n") + "\n"
    "toggle-fullscreen=Shift+F11\n"
    "delete-this-file=1\n"
    "password=c0ffee\n"
    "secure-attention=Ctrl+Alt+Ins\n"
    "release-cursor=Ctrl+Alt+R\n"
)


def test_a_file_of_proxmox_is_read() -> None:
    config, delete = parse_vv(PROXMOX, "vm.vv")
    assert delete
    assert config == ClientConfig(
        host="pvespiceproxy:66b1c2d3:100:pve::f9a8b7c6",
        tls_port=61000,
        proxy="http://pve.example:3128",
        host_subject="OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN=pve.example",
        ca=PEM.strip().encode(),
        password="c0ffee",
        title="VM 100 - test",
    )


def test_a_file_of_ovirt_is_read() -> None:
    text = (
        "[virt-viewer]\r\ntype=spice\r\nhost=10.0.0.1\r\nport=5900\r\npassword=p\\sw\\\\d \r\n"
        "# Password is valid for 120 seconds.\r\ndelete-this-file=0\r\nfullscreen=0\r\n"
        "title=vm:%d\r\ntls-port=5901\r\ntls-ciphers=DEFAULT\r\nhost-subject=O=ovirt,CN=10.0.0.1\r\n"
        "secure-channels=main;inputs;Cursor;display;\r\nversions=rhev-win64:2.0-160\r\n\r\n"
        "[ovirt]\r\nhost=engine.example:443\r\nport=nonsense\r\nsso-token=x\r\n"
    )
    config, delete = parse_vv(text, "console.vv")
    assert not delete
    assert config == ClientConfig(
        host="10.0.0.1",
        port=5900,
        tls_port=5901,
        password="p w\\d ",
        tls_ciphers="DEFAULT",
        host_subject="O=ovirt,CN=10.0.0.1",
        secure_channels=("main", "inputs", "cursor", "display"),
        title="vm:%d",
    )


def test_a_unix_socket_and_a_missing_tls_port_are_read() -> None:
    config, _ = parse_vv("[virt-viewer]\ntype=spice\nunix-path=/run/x\ntls-port=-1\n", "f")
    assert config == ClientConfig(unix_path="/run/x")


def test_both_ways_of_writing_an_escaped_comma_work() -> None:
    for written in (r"O=A\, B,CN=h", r"O=A\\, B,CN=h"):
        config, _ = parse_vv(f"{MINIMAL}host-subject={written}\n", "f")
        assert config.host_subject == r"O=A\, B,CN=h"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r"f\.vv: it has no group"),
        ("host=1\n", r"f\.vv, line 1: expected \[virt-viewer\] first"),
        ("[virt-viewer]\nnonsense\n", r"f\.vv, line 2: expected"),
        ("[virt-viewer\n", r"f\.vv, line 1: the \] of a group"),
        ("[virt-viewer]\nhost=h\nport=1\n", "type=spice is missing"),
        ("[virt-viewer]\ntype=vnc\nhost=h\n", r"f\.vv, line 2: type is 'vnc', and only spice"),
        ("[virt-viewer]\ntype=spice\nport=1\n", "names no server"),
        ("[virt-viewer]\ntype=spice\nhost=h\n", "port=5900 or tls-port=5901 is missing"),
        ("[virt-viewer]\ntype=spice\nhost=h\nport=many\n", "line 4: port must be a whole number"),
        ("[virt-viewer]\ntype=spice\nhost=h\nport=65536\n", "line 4: port must be a port"),
        (MINIMAL + "ca=/etc/ca.pem\n", "line 5: ca must be a PEM certificate"),
        (MINIMAL + "host-subject=nonsense\n", "line 5: host-subject can't be read"),
        (MINIMAL + "proxy=socks://x\n", "line 5: proxy can't be used"),
        (MINIMAL + "password=a\\nb\n", "line 5: password must be a single line"),
        (MINIMAL + "delete-this-file=maybe\n", "line 5: delete-this-file must be"),
    ],
)
def test_errors_name_file_line_and_key(text: str, problem: str) -> None:
    with pytest.raises(AddressError, match=problem):
        parse_vv(text, "f.vv")


@given(st.text() | st.text().map(lambda text: MINIMAL + text))
def test_arbitrary_text_raises_only_address_error(text: str) -> None:
    with contextlib.suppress(AddressError):
        parse_vv(text, "f.vv")


KEYS = st.sampled_from(["port", "ca", "proxy", "host-subject", "password", "delete-this-file", "x"])


@given(st.lists(st.tuples(KEYS, st.text(max_size=8))))
def test_arbitrary_values_raise_only_address_error(entries: list[tuple[str, str]]) -> None:
    text = MINIMAL + "".join(f"{key}={value}\n" for key, value in entries)
    with contextlib.suppress(AddressError):
        parse_vv(text, "f.vv")


def test_the_file_is_deleted_only_if_it_asks_for_that(tmp_path: pathlib.Path) -> None:
    keep, gone = tmp_path / "keep.vv", tmp_path / "gone.vv"
    keep.write_text(MINIMAL)
    gone.write_text(MINIMAL + "delete-this-file=1\n")
    assert load_vv(keep) == load_vv(gone) == ClientConfig(host="h", port=5900)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.vv"]


def test_a_file_that_cannot_be_understood_stays(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "vm.vv"
    file.write_text(MINIMAL + "delete-this-file=1\ntls-port=x\n")
    with pytest.raises(AddressError, match=r"vm\.vv, line 6: tls-port"):
        load_vv(file)
    assert file.exists()


def test_a_symbolic_link_is_neither_read_nor_deleted(tmp_path: pathlib.Path) -> None:
    file, link = tmp_path / "vm.vv", tmp_path / "link.vv"
    file.write_text(MINIMAL + "delete-this-file=1\n")
    link.symlink_to(file)
    with pytest.raises(AddressError, match="symbolic link"):
        load_vv(link)
    assert link.is_symlink()
    assert file.exists()


def test_a_file_that_took_its_place_is_not_deleted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "vm.vv"
    file.write_text(MINIMAL + "delete-this-file=1\n")
    real = vv.parse_vv

    def replaced_meanwhile(text: str, name: str) -> tuple[ClientConfig, bool]:
        other = tmp_path / "other"
        other.write_text("precious")
        other.rename(file)
        return real(text, name)

    monkeypatch.setattr(vv, "parse_vv", replaced_meanwhile)
    with caplog.at_level(logging.WARNING, "aiospice"):
        assert load_vv(file).host == "h"
    assert file.read_text() == "precious"
    assert "something else has taken its place" in caplog.text


def test_only_regular_files_of_a_sane_size_are_read(tmp_path: pathlib.Path) -> None:
    fifo, folder, large = tmp_path / "fifo.vv", tmp_path / "dir.vv", tmp_path / "large.vv"
    os.mkfifo(fifo)
    folder.mkdir()
    large.write_text(MINIMAL + "#" * vv.MAX_FILE_BYTES)
    for path, problem in ((fifo, "regular"), (folder, "regular"), (large, "longer than")):
        with pytest.raises(AddressError, match=problem):
            load_vv(path)
        assert path.exists()


def test_what_is_not_text_is_told_with_its_line(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "vm.vv"
    file.write_bytes(MINIMAL.encode() + b"title=\xff\n")
    with pytest.raises(AddressError, match="line 5: not UTF-8"):
        load_vv(file)
