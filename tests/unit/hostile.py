"""Malformed pictures and label files, made by a seed, and a program that gives each to the command lines.

example: python tests/unit/hostile.py FOLDER    (prints what became of each, and the peak memory, as JSON)
"""

import contextlib
import io
import json
import random
import resource
import shutil
import struct
import sys
import traceback
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data_tools import __main__ as cli

GOOD = "good"      # must be handled
EITHER = "either"  # handled, or refused in a line
HEADER = "image_id,melanoma,seborrheic_keratosis"
COLOUR = cv2.resize(np.random.RandomState(0).randint(0, 256, (6, 8, 3)).astype(np.uint8), (64, 48))


def encode(kind, image=COLOUR, *options):
    return cv2.imencode(kind, image, list(options))[1].tobytes()


def by_pillow(mode, kind, **options):
    file = io.BytesIO()
    Image.fromarray(COLOUR).convert(mode).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def jpeg_with_size(width, height):
    content = bytearray(encode(".jpg"))
    at = content.index(b"\xff\xc0") + 5
    content[at:at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def turned(orientation):
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    content, body = encode(".jpg"), b"Exif\0\0" + tiff
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]


def flipped(content, chance):
    """Change some bytes, but not the first sixteen."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 3, 30])):
        changed[chance.randrange(16, len(changed))] = chance.randrange(256)
    return bytes(changed)


def pictures(chance):
    """Yield (name, bytes, what must come of them): `GOOD`, `EITHER`, or words of the refusal."""
    jpg, progressive, whole_png = encode(".jpg"), encode(".jpg", COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), encode(".png")
    for number in range(30):
        content = chance.choice([jpg, progressive, whole_png])
        cut = chance.randrange(8, len(content) - 1)
        yield f"cut {number}", content[:cut], "cut off after"
        yield f"cut and padded {number}", content[:cut] + bytes(500), "cut off" if content is not whole_png else EITHER
    for number in range(60):
        yield f"flipped {number}", flipped(chance.choice([jpg, progressive, whole_png]), chance), EITHER
    for magic in (b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP", b"%PDF-1.4", b"<html>", b"\0" * 8, b"PK\x03\x04"):
        yield f"magic {magic!r}", magic + chance.randbytes(300), "starts with"
    yield from (("nothing", b"", "is empty"), ("one byte", b"\xff", "starts with"), ("start only", b"\xff\xd8", "cut off"))
    grey, alpha = COLOUR[:, :, 0], np.dstack([COLOUR, COLOUR[:, :, 0]])
    for name, image in (("grey", grey), ("colour", COLOUR), ("alpha", alpha)):
        yield f"8 bit {name}", encode(".png", image), GOOD
        yield f"16 bit {name}", encode(".png", image.astype(np.uint16) * 257), GOOD
    for mode, kind in (("CMYK", "JPEG"), ("L", "JPEG"), ("1", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("I;16", "PNG")):
        yield f"{kind} of mode {mode}", by_pillow(mode, kind), GOOD
    yield "grey with alpha and a palette's transparency", by_pillow("P", "PNG", transparency=0), GOOD
    for orientation in (*range(10), 65535):
        yield f"orientation {orientation}", turned(orientation), GOOD
    for side in (60000, 65535, 20000, 6400):
        yield f"JPEG header {side}", jpeg_with_size(side, side), "million at most"
        yield f"PNG header {side}", png(side, side, 8, 2, bytes(100)), "million at most"
    yield "PNG that unpacks to 0.8 GB", png(16384, 16384, 1, 0, bytes(2049 * 16384)), "million at most"
    yield "PNG of the largest size, one bit a pixel", png(8000, 5000, 1, 0, bytes(1001 * 5000)), GOOD
    for side in ((0, 0), (0, 5), (5, 0)):
        yield f"JPEG of {side}", jpeg_with_size(*side), EITHER
        yield f"PNG of {side}", png(*side, 8, 2, b""), "cannot decode"
    yield "PNG with a huge chunk", whole_png[:33] + b"\xff\xff\xff\xffIDAT" + bytes(100), "cut off"
    yield "PNG with empty pixels", png(9, 9, 8, 2, b""), EITHER
    yield "JPEG of empty segments", b"\xff\xd8" + b"\xff\xe1\0\0" * 5000, "cut off"
    yield "JPEG without a frame", b"\xff\xd8\xff\xd9", "cannot decode"
    yield "two frames", jpg[:2] + jpeg_with_size(60000, 60000)[2:-2] + jpg[2:], "million at most"


def tables(chance):
    """Yield (name, bytes of a label file for the picture p, what must come of it)."""
    good = f"{HEADER}\np,1,0\n"
    for name, text in (("BOM", f"\ufeff{good}"), ("CR only", good.replace("\n", "\r")), ("CRLF", good.replace("\n", "\r\n")),
                       ("quotes", good.replace("p,", '"p",')), ("spaces", good.replace(",", " , ")),
                       ("no last newline", good[:-1]), ("empty lines", good.replace("\n", "\n\n,,\n")),
                       ("more columns", f"{HEADER},x\np,0.0,1.0,?\n")):
        yield name, text.encode(), GOOD
    for image_id in ("../p", "/etc/passwd", "a/b", "a\\b", "..", ".", "", " ", "p\0", "p\tq", '"p\nq"', "~", "-p", "é", "p" * 101,
                     "a..b", "CON:", "p*", "$HOME", "`id`", "%2e%2e"):
        yield f"id {image_id!r}", f"{HEADER}\n{image_id},0,0\n".encode(), "image id" if image_id.strip("\0 ") else EITHER
    for value in ("NaN", "nan", "inf", "-1", "2", "0.5", "", "true", "1e0", "0x1", "01", "١", "None"):
        yield f"label {value!r}", f"{HEADER}\np,{value},0\n".encode(), "expected 0 or 1"
    for name, text, words in (
            ("both", f"{HEADER}\np,1,1\n", "expected one class"), ("twice", f"{HEADER}\np,1,0\np,1,0\n", "stand there twice"),
            ("short", f"{HEADER}\np,1\n", "fields"),
            ("decimal comma", f"{HEADER}\np,1,5,0\n", "4 fields, expected 3"),
            ("no header", "p,1,0\n", "no column"), ("only a header", HEADER, "no rows"),
            ("empty", "", "is empty"), ("blank", "\n\n \n", "is empty"), ("semicolons", good.replace(",", ";"), "no column"),
            ("tabs", good.replace(",", "\t"), "no column"), ("another id", f"{HEADER}\nq,1,0\n", "none of its 1 ids"),
            ("one more id", f"{good}q,0,0\n", "are missing: q"), ("open quote", f'{good}"q,0,0\n' * 3, EITHER),
            ("long field", f"{HEADER}\n{'p' * 200000},0,0\n", EITHER),
            ("many columns", f"{HEADER}{',x' * 100000}\np,1,0\n", EITHER),
            ("many bad rows", HEADER + "\n" + "q,0,0\n" * 100000, "stand there twice"), ("NUL", f"{good}\0\0\0", EITHER)):
        yield name, text.encode(), words
    for name, content in (("UTF-16", good.encode("utf-16")), ("Latin 1", f"{HEADER}\né,0,0\n".encode("latin-1")),
                          ("a picture", encode(".jpg")), ("noise", chance.randbytes(5000))):
        yield name, content, "is no text in UTF-8"
    for number in range(30):
        yield f"flipped table {number}", flipped(good.encode(), chance), EITHER


def sources(folder, seed=1):
    """Write a source folder for every case; yield (name, folder, what must come of it)."""
    chance = random.Random(seed)
    cases = [(name, content, f"{HEADER}\np,1,0\n".encode(), expected) for name, content, expected in pictures(chance)]
    cases += [(name, encode(".png"), table, expected) for name, table, expected in tables(chance)]
    for name, picture, table, expected in cases:
        source = folder / "source"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True)
        (source / f"p.{'png' if picture[:4] == encode('.png')[:4] else 'jpg'}").write_bytes(picture)
        (source / "groundtruth.csv").write_bytes(table)
        yield name, source, expected


def run(words):
    """Run a command line here; return its exit code (-1: a traceback) and its lines of stderr."""
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        try:
            code = cli.main(words)
        except BaseException:
            code = -1
            err.write(traceback.format_exc())
    return code, err.getvalue().splitlines()


def main():
    folder, results = Path(sys.argv[1]), []
    for number, (name, source, expected) in enumerate(sources(folder)):
        command = ["lmdb", "--augment", "none"] if number % 2 else ["clean", "--hair", "none"]
        out = folder / f"out{number}"
        code, lines = run([*command, "--images", str(source), "--out", str(out), "--jobs", "1"])
        finished = (out / ("manifest.json" if number % 2 else "groundtruth.csv")).exists()
        results.append({"name": name, "expected": expected, "code": code, "finished": finished,
                        "lines": [line for line in lines if not line.startswith("note: ")]})
    print(json.dumps({"results": results, "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


if __name__ == "__main__":
    main()
