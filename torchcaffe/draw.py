"""pycaffe's draw: the picture of a net, by Graphviz (its program `dot`; pydot is not needed)."""
import subprocess
from typing import Any, List, Optional

from .errors import CaffeError
from .netparam import meets
from .proto import caffe_pb2 as pb

_BOX, _OVAL = 'shape=record, fillcolor="#6495ED", style=filled', 'shape=octagon, fillcolor="#E0E0E0", style=filled'


def _label(layer: Any) -> str:
    """Return name, type and the sizes of windows."""
    p = layer.convolution_param if layer.HasField("convolution_param") else layer.pooling_param
    text = f"{layer.name}\\n({layer.type})"
    if layer.HasField("convolution_param") or layer.HasField("pooling_param"):
        for name in ("kernel_size", "stride", "pad"):
            value = getattr(p, name)
            values = [value] if isinstance(value, int) else list(value)
            text += f"\\n{name}: {' '.join(map(str, values or [int(name == 'stride')]))}"
    return text.replace('"', "'")


def dot_text(caffe_net: Any, rankdir: str = "LR", phase: Optional[int] = None) -> str:
    """Return a net in Graphviz's language; `phase` leaves out the layers of the other one."""
    lines: List[str] = []
    for i, layer in enumerate(caffe_net.layer):
        state = pb.NetState(phase=phase or 0)
        rules = list(layer.include or layer.exclude)
        if phase is not None and rules and any(meets(state, rule) for rule in rules) != bool(layer.include):
            continue
        lines.append(f'"layer {i}" [label="{_label(layer)}", {_BOX}];')
        lines += [f'"{blob}" [{_OVAL}]; "{blob}" -> "layer {i}";' for blob in layer.bottom]
        lines += [f'"{blob}" [{_OVAL}]; "layer {i}" -> "{blob}";' for blob in layer.top]
    return f'digraph "{caffe_net.name}" {{\nrankdir={rankdir};\n' + "\n".join(lines) + "\n}\n"


def draw_net(caffe_net: Any, rankdir: str, ext: str = "png", phase: Optional[int] = None) -> bytes:
    """Return the picture of a NetParameter as a file of a type: png, pdf, svg, ...; dot gives the text itself."""
    text = dot_text(caffe_net, rankdir, phase).encode()
    if ext == "dot":
        return text
    try:
        return subprocess.run(["dot", f"-T{ext}"], input=text, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise CaffeError("draw needs Graphviz's program dot; install graphviz, or ask for ext='dot'") from None
    except subprocess.CalledProcessError as error:
        raise CaffeError(f"dot: {error.stderr.decode(errors='replace').strip()}") from None


def draw_net_to_file(caffe_net: Any, filename: str, rankdir: str = "LR", phase: Optional[int] = None) -> None:
    """Write the picture of a NetParameter to a file, whose name says the type."""
    picture = draw_net(caffe_net, rankdir, filename.rpartition(".")[2], phase)
    with open(filename, "wb") as file:
        file.write(picture)
