"""The sections of a report that show pictures: one picture through both stages, maps, failures of each stage."""
from typing import Sequence

from data_tools.files import encode_image
from data_tools.isic import CLASSES

from . import html_page
from .examples import FAILURES, SHOWN, STAGES, Example, Probabilities, Run, median_melanoma, most_wrong, spread
from .report_parts import drawn, keep

JPEG_QUALITY = 85
SCALE = "none", "most evidence"  # ends of a colour bar


def overview_section(material: Run) -> str:
    """Return the section that follows one picture through both stages (Fig. 1 of the paper)."""
    from .sheets import overview

    material.check()
    image_id = median_melanoma(material.labels, material.stage1)
    return drawn(material, "overview", overview(material.example(image_id)),
                 f"The path of {image_id}, the melanoma of middle rank in {STAGES[0]} (Fig. 1 of the paper). M melanoma, SK "
                 "seborrheic keratosis, N nevus; the box is where the crop is cut. The network has no map where the picture is "
                 "pale.")


def maps_section(material: Run) -> str:
    """Return pictures with their maps, box and crop (Fig. 2 of the paper)."""
    return _cases(material, "maps", spread(material.labels, material.stage1, SHOWN),
                  f"Of each class {SHOWN} {material.split} pictures, evenly spaced from the most to the least certain (Fig. 2 of "
                  "the paper). The three maps of a picture share one colour scale. The network has no map where the picture is "
                  f"pale. The number is the class' probability in {STAGES[0]}; the box follows the map of the marked "
                  "class. Evidence against a class is not drawn, so a stronger map need not mean the higher probability.")


def failures_section(material: Run) -> str:
    """Return the pictures that each stage got wrong with the highest confidence (Fig. 4 of the paper)."""
    return "\n".join(_failures(material, name, stage, probs)
                     for name, stage, probs in zip(("failures", "failures_stage2"), STAGES, (material.stage1, material.stage2)))


def _failures(material: Run, name: str, stage: str, probs: Probabilities) -> str:
    wrong = most_wrong(material.labels, probs)
    if not wrong:
        return html_page.paragraph(f"None: {stage} got all {len(material.labels)} pictures right.")
    shown = wrong[:FAILURES]
    return html_page.heading(stage) + _cases(
        material, name, shown, f"{stage} gives {len(wrong)} of {len(material.labels)} pictures a wrong class the highest "
        f"probability; here are the {len(shown)} it was surest of (Fig. 4 of the paper). The gallery has them all.")


def _cases(material: Run, name: str, ids: Sequence[str], text: str) -> str:
    """Write the figure ``name`` and return the same pictures as cards under a text and a colour bar."""
    from .sheets import sheet

    material.check()
    shown = [material.example(image_id) for image_id in ids]
    keep(material, name, sheet(shown))
    return "\n".join([html_page.paragraph(text), html_page.colour_bar(*SCALE), *map(case, shown)])


def case(example: Example) -> str:
    """Return a picture's card: box, three maps, crop."""
    from .drawing import SHORT
    from .sheets import COLUMNS as NAMES
    from .sheets import tiles

    values = ["", *(f"{p:.2f}" for p in example.probs), ""]
    followed = [name == example.row.followed for name in ("", *CLASSES, "")]
    figures = [html_page.picture(encode_image(tile, ".jpg", JPEG_QUALITY), "jpeg", caption, value=value, chosen=chosen)
               for tile, caption, value, chosen in zip(tiles(example), NAMES, values, followed)]
    height, width = example.row.box.size
    reason = ", the whole picture" if example.row.is_whole else ""
    reason += "" if example.row.reason == "region" else f" ({example.row.reason})"
    after = ", ".join(f"{short} {p:.2f}" for short, p in zip(SHORT, example.final))
    true = CLASSES[example.label].replace("_", " ")
    remark = f"true class {true} · crop {width} x {height} pixels{reason} · {STAGES[1]}: {after}"
    return html_page.card(example.image_id, remark, figures)
