"""What is no regular file is refused where files are opened: a FIFO would be waited for, a device has no end."""

import os
import socket

import pytest

from data_tools import records
from data_tools.errors import DataError
from data_tools.files import read_image, sha256_file, sha256_pieces
from data_tools.isic import read_groundtruth
from pycam import engine, forward, predictions, two_stages, weight_arrays
from pycam.errors import CamError


def read_record(path):
    return records.read_json(path, dict, "a record", "make it again")


READERS = [read_image, read_groundtruth, predictions.read, sha256_file, sha256_pieces, read_record, forward.read_classes,
           weight_arrays.read, weight_arrays.shapes, engine.weight_shapes, two_stages.read_any]


@pytest.fixture(params=["fifo", "folder", "device", "socket"])
def path(request, tmp_path, monkeypatch):
    """Return something that is no regular file."""
    made = tmp_path / "p"
    if request.param == "fifo":
        os.mkfifo(made)
    elif request.param == "folder":
        made.mkdir()
    elif request.param == "device":
        made.symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(tmp_path)  # a socket's name is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("p")
    return made


@pytest.mark.parametrize("read", READERS)
def test_no_files(path, read):
    with pytest.raises((DataError, CamError, OSError), match=r"regular file|Is a directory"):
        read(path)
