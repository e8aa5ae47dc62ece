"""torchcaffe's table of messages against the one that protoc made for real Caffe."""

import base64
import subprocess
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from torchcaffe.proto import caffe_pb2 as ours
from torchcaffe.proto.build import describe
from torchcaffe.proto.schema import SCHEMA

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {"V0LayerParameter"}  # the syntax of 2013


def table(file):
    """Return {message or enum: {name: what is known of it}} of a FileDescriptorProto."""
    enums = [(enum.name, enum) for enum in file.enum_type]
    found = {}
    for message in file.message_type:
        enums += [(f"{message.name}.{enum.name}", enum) for enum in message.enum_type]
        found[message.name] = {
            f.name: (f.number, f.type, f.label, f.type_name, default(f), f.options.packed) for f in message.field
            if f.type_name.rpartition(".")[2] not in LEFT_OUT}
    found.update({name: {v.name: v.number for v in enum.value} for name, enum in enums})
    return {name: fields for name, fields in found.items() if name.split(".")[0] not in LEFT_OUT}


def default(field):
    numbers = (field.TYPE_FLOAT, field.TYPE_DOUBLE)
    return float(field.default_value) if field.type in numbers and field.default_value else field.default_value


@pytest.fixture(scope="module")
def real(real_caffe):
    program = "import base64, caffe.proto.caffe_pb2 as p; print(base64.b64encode(p.DESCRIPTOR.serialized_pb).decode())"
    run = subprocess.run([real_caffe, "-c", program], capture_output=True, text=True, check=True)
    return table(descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(run.stdout.splitlines()[-1])))


@pytest.mark.caffe
def test_the_same_messages(real, live_cases):
    mine = table(describe(SCHEMA))
    assert set(mine) == set(real)
    live_cases()


@pytest.mark.caffe
@pytest.mark.parametrize("name", sorted(table(describe(SCHEMA))))
def test_the_same_fields(real, live_cases, name):
    assert table(describe(SCHEMA))[name] == real[name]
    live_cases()


def test_names_of_the_module():
    assert (ours.TRAIN, ours.TEST, ours.Phase.Name(1)) == (0, 1, "TEST")
    assert ours.PoolingParameter.AVE == ours.PoolingParameter.PoolMethod.Value("AVE") == 1
    assert ours.SolverParameter().delta == pytest.approx(1e-8)
    with pytest.raises(AttributeError, match="caffe_pb2 has no 'Foo'"):
        _ = ours.Foo


def test_two_tables_live_in_one_process(real_caffe):
    """The pool is private: real Caffe's module and ours may both be imported."""
    program = ("import sys; sys.path.insert(0, sys.argv[1]); from torchcaffe.proto import caffe_pb2 as a; "
               "from caffe.proto import caffe_pb2 as b; "
               "text = a.Datum(label=3, data=b'x').SerializeToString(); assert b.Datum.FromString(text).label == 3")
    subprocess.run([real_caffe, "-c", program, str(ROOT)], check=True)
