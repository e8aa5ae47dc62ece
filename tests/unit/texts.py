"""Texts of small nets: inputs, and layers that are named like their top."""

FORCE = "force_backward: true\n"


def blob(name, *dims):
    shape = " ".join(f"dim: {n}" for n in dims)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'


def layer(kind, fields="", bottom="x", top="y"):
    return f'layer {{ name: "{top}" type: "{kind}" bottom: "{bottom}" top: "{top}" {fields} }}\n'
