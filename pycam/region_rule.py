"""From the class activation maps of a picture to the region that is cut out: one rule, one function (D09, D16, D17, D21)."""
import argparse
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import msgspec
import numpy as np

from data_tools.errors import unknown
from data_tools.isic import CLASSES
from data_tools.records import damaged

from .cam import CLASS_RULES, PLACEMENT, PLACEMENTS, Grid, merge, select
from .errors import CamError
from .preprocess import VIEWS
from .regions import CAM_THRESHOLD, CROP_MARGIN, GROUNDS, REGION, RULES, Region, level, square_up, tight_region

CHOICES: Dict[str, Tuple[Sequence[str], str]] = {  # field -> its values, what it says
    "class_rule": (CLASS_RULES, "whose map is followed"),
    "rule": (RULES, "share of the maximum as in the CAM paper, its authors' released program, or Otsu's"),
    "ground": (GROUNDS, "what is taken off a map before the rule threshold; for --placement exact"),
    "placement": (PLACEMENTS, "where the map's cells lie, and what is beyond the outermost ones"),
    "views": (tuple(VIEWS), "patches whose maps are summed"),
}
SHARES = {"threshold": "share of the map's maximum, for the rule threshold",
          "margin": "added on each side, as a share of the region"}
CODE = ("pycam.cam", "pycam.regions", "pycam.region_rule", "pycam.preprocess", "data_tools.augment")  # what decides a region


@dataclass(frozen=True)
class RegionRule:
    """How a region is found.

    Attributes
    ----------
    class_rule : str
        Whose map is followed, see `pycam.cam.select`.
    rule, ground, threshold
        Where the region begins, see `pycam.regions.tight_region`.
    margin : float
        Added on each side, as a share of the region's longer side, in [0, 1).
    placement : str
        Where the map's cells lie in the picture, see `pycam.cam.place`.
    views : str
        Patches whose maps are summed, ``centre`` or ``ten``.

    Raises
    ------
    CamError
        When a value is not known or not in its range.
    """

    class_rule: str = "predicted"
    rule: str = "threshold"
    ground: str = "none"
    threshold: float = CAM_THRESHOLD
    margin: float = CROP_MARGIN
    placement: str = PLACEMENT
    views: str = "centre"

    def __post_init__(self) -> None:
        """Refuse what is no rule."""
        for name, (values, _) in CHOICES.items():
            if getattr(self, name) not in values:
                raise CamError(f"region rule, {name}: {unknown(str(getattr(self, name)), values)}")
        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise CamError(f"region rule, {name}: {getattr(self, name)} is not in [0, 1)")

    def changed(self, **options: Any) -> "RegionRule":
        """Return the rule with some fields changed; refuse a name that is no field."""
        known = [field.name for field in fields(self)]
        for name in options:
            if name not in known:
                raise CamError(f"region rule: {unknown(name, known)}")
        return RegionRule(**{**asdict(self), **options})


class Located(NamedTuple):
    """Where a picture's maps point.

    Attributes
    ----------
    region : Region
        The box to cut out, square with its margin, and its reason.
    tight : Region
        The box of the region as it is.
    cam : ndarray
        The map that was followed, placed on the picture: H x W float32.
    lowest : float
        The value above which it is region.
    followed : str
        Whose map it is, see `pycam.cam.select`.
    """

    region: Region
    tight: Region
    cam: np.ndarray
    lowest: float
    followed: str


def locate(rule: RegionRule, cams: np.ndarray, probs: np.ndarray, size: Tuple[int, int], grid: Grid,
           label: Optional[int] = None, classes: Sequence[str] = CLASSES) -> Located:
    """Find the region of a picture.

    Parameters
    ----------
    rule : RegionRule
        How.
    cams : ndarray
        V x C x h x w float, the maps of the rule's views, from `pycam.forward.predict_with_maps`.
    probs : ndarray
        C.
    size : (int, int)
        Height and width of the picture.
    grid : Grid
        Of the network, from `pycam.cam.read_grid`.
    label : int, optional
        The true class, for the class rule ``true``.
    classes : sequence of str
        Names of the C classes.
    """
    chosen, followed = select(rule.class_rule, cams, probs, label, classes)
    return find(rule, merge(chosen, size, rule.placement, grid), followed)


def find(rule: RegionRule, cam: np.ndarray, followed: str) -> Located:
    """Find the region in a map that is placed on its picture (H x W); several rules can share one."""
    how: Dict[str, Any] = {"threshold": rule.threshold, "ground": rule.ground}
    tight = tight_region(cam, rule.rule, **how)
    region = tight._replace(box=square_up(tight.box, cam.shape, rule.margin)) if tight.reason == REGION else tight
    return Located(region, tight, cam, level(cam, rule.rule, **how), followed)


# ---------------------------------------------------------------- records of crops
def recorded(rule: RegionRule, control: Optional[str]) -> Dict[str, Any]:
    """Return how regions were found as a record tells it: a rule, and what was cut out instead, if anything."""
    return {**asdict(rule), "control": control}


def read_recorded(pictures: Dict[str, Any], where: Path) -> Optional[Tuple[RegionRule, Optional[str]]]:
    """Return the rule and the control that a record tells of its pictures; None where it tells nothing of regions."""
    if "region" not in pictures:
        return None
    try:
        found = msgspec.convert(pictures["region"], Dict[str, Union[str, float, None]])
        control = msgspec.convert(found.get("control"), Optional[str])
        return msgspec.convert({field.name: found[field.name] for field in fields(RegionRule)}, RegionRule), control
    except (msgspec.ValidationError, KeyError, CamError) as error:
        raise damaged(f"{where}: the record's region rule", error, "make the crops again") from error


# ---------------------------------------------------------------- command lines
def add_arguments(parser: argparse.ArgumentParser, several: bool = False, but: Sequence[str] = (), default: str = "") -> None:
    """Add an option for each field `but` some; with `several`, one that takes a list of values (not the margin).

    The help says `default` of all, or of each field its own.
    """
    for name in (name for name in CHOICES if name not in but):
        values, text = CHOICES[name]
        parser.add_argument("--class" if name == "class_rule" else f"--{name}", dest=name, choices=values,
                            nargs="+" if several else None, help=f"{text} (default: {default or getattr(RegionRule, name)})")
    for name, text in SHARES.items():
        parser.add_argument(f"--{name}", type=_share, nargs="+" if several and name == "threshold" else None,
                            metavar=name[0].upper(), help=f"{text} (default: {default or getattr(RegionRule, name)})")


def given(args: argparse.Namespace) -> Dict[str, Any]:
    """Return the fields that a command line names."""
    return {field.name: getattr(args, field.name) for field in fields(RegionRule) if getattr(args, field.name) is not None}


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return value
