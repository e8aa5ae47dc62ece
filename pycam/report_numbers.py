"""The sections of a report that hold numbers and curves; each says in one line what it lacks."""
import re
from pathlib import Path
from typing import Dict, Iterator, Optional, Tuple

import numpy as np

from data_tools.isic import CLASSES, GROUNDTRUTH, SPLITS
from data_tools.records import read_rows

from . import clinical, html_page, metadata, predictions, trainlog
from .clinical import Share
from .errors import CamError
from .examples import STAGES, Run
from .predictions import SCORED
from .report_parts import drawn, title
from .scoring import DECISION, MEAN, compare, p_value, score
from .studies.controls import CONTROLS
from .table1 import COLUMNS, FIGURES, STAGE1, STAGE2, cell, describe_gain, metrics_file, read_metrics, table_rows

RUNS = {"Stage 1": "stage1", "Stage 1+2": "stage2", "Stage 1, from scratch": "stage1_scratch"}  # curve -> folder of its log
TUNING = {"train": "train", "val": "train", "test": "val"}  # split -> the one whose pictures choose its thresholds
LOCALIZATION = Path("localization") / "localization.csv"  # in a run's folder, if it is the output of `localize`
LOCALIZED = ("class_rule", "rule", "ground", "threshold", "placement", "views", "n", "box_iou", "pointing", "energy", "crop_side",
             "whole")


def spell(name: str) -> str:
    """Return a class' name in words."""
    return name.replace("_", " ")


def inputs(folder: Path, split: str, tables: Optional[Path]) -> Iterator[Path]:
    """Yield the files that these sections may read."""
    for part in SPLITS:
        yield metrics_file(folder / "results", part)
    for part in (split, TUNING[split]):
        yield folder / "clean" / part / GROUNDTRUTH
        yield from (folder / "results" / f"{stage}_{part}.csv" for stage in ("stage1", "stage2"))
    yield from (folder / place / "train.log" for place in RUNS.values())
    yield from control_files(folder, split).values()
    yield folder / LOCALIZATION
    yield from filter(None, [tables and metadata.find(tables, split)])


def table_section(material: Run) -> str:
    """Return Table 1 with the paper's rows and other splits, the gain of stage 2, and the challenge's other figures."""
    results = material.folder / "results"
    metrics = read_metrics(metrics_file(results, material.split))
    rows = [[title(row.name), *(cell(*values) for values in row.cells)] for row in table_rows(metrics)]
    for split in SPLITS:
        if split != material.split and metrics_file(results, split).is_file():
            other = read_metrics(metrics_file(results, split))
            rows += [[f"{title(row.name)}, {split}, {other['pictures']} pictures", *(cell(*values) for values in row.cells)]
                     for row in table_rows(other) if row.name not in other["paper"]]
    scores = metrics["scores"]
    figures = [[spell(f"{figure}: {key}"), *(f"{stage[figure][key]:.3f}" for stage in scores.values())]
               for figure in (MEAN, *SCORED) for key in scores[STAGE1][figure]
               if key.startswith("auc_above") or not key.startswith("auc")]
    gain = metrics["stage2_against_stage1"][MEAN]
    tiles = [(f"Mean AUC, {title(name)}", f"{scores[name][MEAN]['auc']:.3f}",
              f"95 %: {scores[name][MEAN]['auc_low']:.3f} to {scores[name][MEAN]['auc_high']:.3f}") for name in (STAGE1, STAGE2)]
    tiles.append(("Stage 1+2 against Stage 1", f"{gain['difference']:+.3f}",
                  f"95 %: {gain['low']:+.3f} to {gain['high']:+.3f}, p {p_value(gain['p_delong'])}"))
    return "\n".join([
        html_page.numbers([*tiles, (f"{metrics['data']}, {material.split}", str(metrics["pictures"]),
                               "pictures; AUC, each class against the rest")]),
        html_page.paragraph("M: melanoma, SK: seborrheic keratosis, AVG: their mean. Area under the ROC curve, below it its 95 % "
                       "bootstrap interval."),
        html_page.table(["", *COLUMNS], rows, theirs=[title(name) for name in metrics["paper"]]),
        html_page.paragraph(describe_gain(metrics).replace("Stage 2", STAGES[1])),
        html_page.details("The challenge's other figures", html_page.table(
            ["", *map(title, scores)], figures, caption=f"Accuracy, sensitivity and specificity: positive above {DECISION}. "
            "The numbers of other figures are sensitivities in percent."))])


def control_files(folder: Path, split: str) -> Dict[str, Path]:
    """Return the predictions of a run's controls, which are sibling folders: name of the control -> file."""
    own = folder.resolve()
    paths = {name: own.with_name(f"{own.name}-{name}") / "results" / f"stage2_{split}.csv" for name in CONTROLS}
    return {name: path for name, path in paths.items() if path.is_file()}


def controls_section(material: Run) -> str:
    """Return what Stage 1+2 reaches with boxes that know nothing of the maps."""
    found = control_files(material.folder, material.split)
    if not found:
        raise CamError(f"no control was run; expected predictions in {material.folder.resolve().name}-whole beside the run")
    labels, probs = predictions.read_pair(material.clean / GROUNDTRUTH, material.files[STAGES[1]], *found.values())
    rows = []
    for name, other in zip((STAGES[1], *(f"control: {control}" for control in found)), probs):
        scores = score(labels, other)
        cells = [cell(*(scores[figure][key] for key in ("auc", "auc_low", "auc_high"))) for figure in FIGURES]
        test = compare(labels, probs[0], other)[MEAN]
        against = f"{test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f}), p {p_value(test['p_delong'])}"
        rows.append([name, *cells, "" if other is probs[0] else against])
    return html_page.paragraph("Crops that know nothing of the maps: whole pictures, or boxes of the same size elsewhere. What "
                               "they reach too is not due to the maps. AVG change: paired, against Stage 1+2."
                               ) + html_page.table(["", *COLUMNS, "AVG change"], rows)


def decision_section(material: Run) -> str:
    """Return the confusion matrices, and sensitivity and specificity at a chosen threshold."""
    parts = []
    for stage, probs in material.probs.items():
        counts = [[spell(name), *map(str, row)] for name, row in zip(CLASSES, clinical.confusion(material.truth, probs))]
        parts.append(html_page.table(["true class", *(f"called {spell(name)}" for name in CLASSES)], counts,
                                     caption=f"{stage}: pictures by true and by most probable class"))
    choosing, remark = tuning(material)
    rows = []
    for stage, probs in material.probs.items():
        for number, name in enumerate(SCORED):
            threshold = clinical.choose_threshold(choosing.truth == number, choosing.probs[stage][:, number])
            found = clinical.decide(material.truth == number, probs[:, number], threshold)
            rows.append([f"{stage}, {spell(name)}", f"{threshold:.3f}", cell(*found.sensitivity), cell(*found.specificity)])
    return "\n".join([*parts, html_page.table(["", "threshold", "sensitivity", "specificity"], rows,
                                              caption="One class against the rest at a decision threshold"),
                      html_page.paragraph(f"A picture is positive from the threshold on. {remark} Below each share its 95 % "
                                          "Wilson interval.")])


def tuning(material: Run) -> Tuple[Run, str]:
    """Return the pictures that choose the thresholds, and a sentence that says so; never the test pictures."""
    split = TUNING[material.split]
    other = material.other(split)
    text = "The threshold is the one with the largest sum of sensitivity and specificity"
    if all(path.is_file() for path in (*other.files.values(), other.clean / GROUNDTRUTH)):
        return other, f"{text} on the {len(other.labels)} {split} pictures."
    if material.split == "test":
        raise CamError(f"no threshold: {listed(other)} is missing, and test pictures choose nothing; predict val too")
    return material, (f"{text} on these same {len(material.labels)} {material.split} pictures, so both look better than they "
                      f"are; there are no predictions of the {split} pictures.")


def listed(material: Run) -> str:
    """Return the first file of a run's predictions that is not there."""
    return str(next(path for path in (*material.files.values(), material.clean / GROUNDTRUTH) if not path.is_file()))


def roc_section(material: Run) -> str:
    """Return the ROC curves of both stages with their bands."""
    from .figures import roc_curves

    labels, probs = predictions.read_pair(material.clean / GROUNDTRUTH, *material.files.values())
    return drawn(material, "roc", roc_curves(labels, dict(zip(material.files, probs))),
                 f"ROC curves on the {material.split} pictures; the bands hold 95 % of the bootstrap curves at each point.")


def recall_section(material: Run) -> str:
    """Return the precision-recall curves of both stages."""
    from .figures import precision_recall

    return drawn(material, "precision_recall", precision_recall(material.truth, material.probs),
                 f"Precision and recall on the {material.split} pictures; dotted: the share of the class.")


def calibration_section(material: Run) -> str:
    """Return the calibration curves and Brier scores of both stages."""
    from .figures import calibration_curves

    rows = []
    for number, name in enumerate(SCORED):
        truth = material.truth == number
        found = [clinical.brier(truth, probs[:, number]) for probs in material.probs.values()]
        rows.append([spell(name), *(f"{own:.3f}" for own, _ in found), f"{found[0][1]:.3f}"])
    return drawn(material, "calibration", calibration_curves(material.truth, material.probs),
                 f"How often a probability comes true: {clinical.BINS} bins of equal numbers of {material.split} pictures; "
                 "dotted: perfect calibration.") + html_page.table(
                     ["", *material.probs, "share of the class for all"], rows, caption="Brier score: lower is better")


def people_section(material: Run, tables: Optional[Path]) -> str:
    """Return the AUCs by age and sex."""
    path = tables and metadata.find(tables, material.split)
    if path is None:
        raise CamError(f"no table of age and sex of the {material.split} pictures"
                       + (f" in {tables}" if tables else "; name the folder of the data set with --isic"))
    people = metadata.read(path)
    absent = [image_id for image_id in material.labels if image_id not in people]
    if absent:
        raise CamError(f"{path}: no row of {len(absent)} of {len(material.labels)} pictures, {absent[0]} the first")
    rows = []
    for name, members in clinical.groups([people[image_id] for image_id in material.labels]).items():
        truth = material.truth[members]
        aucs = [_told(clinical.group_auc(truth == number, probs[members, number]))
                for number in range(len(SCORED)) for probs in material.probs.values()]
        rows.append([name, str(len(truth)), *(str(int((truth == number).sum())) for number in range(len(SCORED))), *aucs])
    heads = [f"{short}, {stage}" for short in ("M", "SK") for stage in material.probs]
    return html_page.table(["", "pictures", "M", "SK", *heads], rows) + html_page.paragraph(
        f"AUC of one class against the rest, below it DeLong's 95 % interval. No AUC where the class or the rest "
        f"has fewer than {clinical.FEWEST} pictures. From {path.name}.")


def _told(found: Optional[Share]) -> str:
    return cell(*found) if found else "-"


def crops_section(material: Run) -> str:
    """Return how large the crops are, by true class."""
    rows = []
    for number, name in (*enumerate(CLASSES), (-1, "all")):
        boxes = [material.boxes[i] for i, label in material.labels.items() if number in (label, -1) and i in material.boxes]
        if boxes:
            sides = [np.sqrt(np.prod(row.box.size) / (row.height * row.width)) for row in boxes]
            quartiles = (f"{side:.2f}" for side in np.percentile(sides, [0, 25, 50, 75, 100]))
            rows.append([spell(name), str(len(boxes)), str(sum(row.is_whole for row in boxes)), *quartiles])
    return html_page.table(["true class", "crops", "whole pictures", "smallest", "lower quartile", "median", "upper quartile",
                            "largest"], rows) + html_page.paragraph(
        "Side of the crop as a share of the picture's: the square root of the share of its area.")


def localization_section(material: Run) -> str:
    """Return how the boxes and maps lie on the lesions, if ``localize`` has written its tables into the run."""
    path = material.folder / LOCALIZATION
    if not path.is_file():
        raise CamError(f"no {LOCALIZATION} in the run; make it with `python -m pycam localize --out RUN/{LOCALIZATION.parent}`")
    (_, header), *rows = read_rows(path, "what `python -m pycam localize` writes")
    short = next((line for line, row in rows if len(row) != len(header)), None)
    if short:
        raise CamError(f"{path}: line {short} has another number of fields than the header; make it again with localize")
    columns = [header.index(name) for name in LOCALIZED if name in header]
    place = header.index("class") if "class" in header else None
    kept = [row for _, row in rows if place is None or row[place] == "all"]
    shown = [[_short(row[column]) for column in columns] for row in kept]
    return html_page.paragraph(
        "Each row is a way from maps to regions, on the n pictures that localize was given masks of. Box iou: the region's box "
        "and the lesion's, intersection over union. Pointing: share of pictures whose highest place is in the lesion. Energy: "
        "share of the map's positive sum in it. Crop side: median, as a share of the picture's. Whole: crops of whole pictures."
    ) + html_page.table([spell(header[column]) for column in columns], shown, style="text dense")


def _short(number: str) -> str:
    """Return a number of a table with three decimals; other text as it is."""
    return f"{float(number):.3f}" if re.fullmatch(r"-?\d+\.\d{4,}", number) else number


def training_section(material: Run) -> str:
    """Return the loss curves of the runs that have a log (Fig. 3 of the paper)."""
    from .figures import loss_curves

    folder, logs = material.folder, {}
    for name, place in RUNS.items():
        path = folder / place / "train.log"
        if path.is_file():
            tuned = name == "Stage 1" and trainlog.TUNED in trainlog.whole_lines(path)
            logs[f"{name}, fine-tuned" if tuned else name] = trainlog.read(path)
    if not logs:
        raise CamError(f"{folder}: no stage1/train.log; train first")
    return drawn(material, "loss", loss_curves(logs), "Loss as the solver reports it, and accuracy (Fig. 3 of the paper).")
