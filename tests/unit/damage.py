"""Ways to damage a file of ours, drawn by a seed: other types, missing keys, short rows, other encodings, things cut off."""

import json

VALUES = [None, [], {}, [[]], {"a": []}, "text", "", 5, -1, 0.5, True, 1e308, 10 ** 400, 2 ** 63, "\0", "\ud800", "../../x",
          "{x}", "$", [None], [1, 2, 3, 4], {"": {"": {"": {"": 1}}}}, "x" * 300000]
FIELDS = ["", "0.5.", "nan", "inf", "1e999", "-1", "9" * 5000, "9" * 30, "\u0661", "\0", "x" * 300000, '"', "a,b", "{x}", "{0:q}",
          "{0:>999999999}", "../x", "\u2028", "1_0", "0x1", " ", "$a_{", "\ufeff", "\r", "\x1c"]
WHOLE = {"empty": b"", "null": b"null", "list": b"[]", "object": b"{}", "text": b'"a"', "number": b"1",
         "NaN": b'{"version": NaN}', "deep lists": b"[" * 100000, "deep objects": b'{"a":' * 100000,
         "deep part": b'{"parameters": {"a": ' + b"[" * 900, "binary": bytes(range(256)) * 20, "NUL": bytes(1000),
         "Latin 1": b"caf\xe9\n" * 9, "UTF-16": "a,b\n".encode("utf-16"),
         "newlines": b"\n" * 1000, "one line": b"x" * 1000000, "quotes": b'"a\n' * 3}


def places(value, path=()):
    """Yield the path of every value in a tree of lists and objects."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


def change_json(content, chance):
    """Replace, delete, rename or nest one value; return what was done and the new content."""
    tree = json.loads(content)
    *way, last = chance.choice([path for path in places(tree) if path])
    parent = tree
    for key in way:
        parent = parent[key]
    kind = chance.choice(["replace"] * 5 + ["delete", "rename", "nest"])
    if kind == "replace":
        parent[last] = chance.choice(VALUES)
    elif kind == "delete" or not isinstance(parent, dict):
        del parent[last]
    elif kind == "rename":
        parent[chance.choice(["\0", "\ud800", "x", "../x"])] = parent.pop(last)
    else:
        parent[last] = "@"
    depth = chance.choice([5, 900, 100000])
    text = json.dumps(tree).replace('"@"', "[" * depth + "]" * depth)
    return f"{kind} {'/'.join(map(str, (*way, last)))[:60]}", text.encode()


def change_text(content, chance):
    """Replace a field of a line, take one away, add one, or write the line twice; return what was done and the new content."""
    lines = content.decode().split("\n")
    number = chance.randrange(max(1, len(lines) - 1))
    comma = "," if "," in lines[0] else " "
    fields, new = lines[number].split(comma), chance.choice(FIELDS)
    place, kind = chance.randrange(len(fields)), chance.choice(["replace"] * 4 + ["delete", "add", "twice"])
    if kind == "delete":
        del fields[place]
    elif kind != "twice":
        fields[place:place + (kind == "replace")] = [new]
    lines[number:number + 1] = [comma.join(fields)] * (2 if kind == "twice" else 1)
    return f"{kind} field {place} of line {number + 1}: {new[:20]!r}", "\n".join(lines).encode()


def damaged(path, chance):
    """Return how a file's content could be damaged: what was done, and the new content."""
    content = path.read_bytes()
    kind = chance.random()
    if kind < 0.2:
        how = chance.choice(list(WHOLE))
        return how, WHOLE[how]
    if kind < 0.3:
        return "cut", content[:chance.randrange(len(content))]
    return (change_json if path.suffix == ".json" else change_text)(content, chance)
