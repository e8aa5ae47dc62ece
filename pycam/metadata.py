"""The age and sex of the person in each picture, from the table that comes with ISIC-2017."""
import math
from pathlib import Path
from typing import Dict, Optional, Tuple

from data_tools.isic import ID, OFFICIAL_NAMES
from data_tools.records import read_rows, shorten

from .errors import CamError

COLUMNS = (ID, "age_approximate", "sex")
WHAT = f"a CSV file with the columns {','.join(COLUMNS)}"
SEXES = ("female", "male")

Person = Tuple[Optional[float], str]  # age in years, sex; None and "" where they are not known


def find(root: Path, split: str) -> Optional[Path]:
    """Return the table of a split below the folder of the data set, or None."""
    name = OFFICIAL_NAMES[split]
    table = f"ISIC-2017_{name}_Data_metadata.csv"
    places = (root / f"ISIC-2017_{name}_Data" / table, root / "metadata" / table, root / table)
    return next((path for path in places if path.is_file()), None)


def read(path: Path) -> Dict[str, Person]:
    """Return age and sex by image id."""
    (_, header), *rows = read_rows(path, WHAT)
    if not set(COLUMNS) <= set(header):
        raise CamError(f"{path}: the columns are {shorten(','.join(header))}; expected {','.join(COLUMNS)}")
    columns = [header.index(name) for name in COLUMNS]
    short = next((line for line, row in rows if len(row) != len(header)), None)
    if short:
        raise CamError(f"{path}: line {short} has another number of fields than the header; expected {WHAT}")
    picked = ([row[column] for column in columns] for _, row in rows)
    return {image_id: (_age(age), sex if sex in SEXES else "") for image_id, age, sex in picked}


def _age(text: str) -> Optional[float]:
    try:
        age = float(text)
    except ValueError:  # the official tables say "unknown"
        return None
    return age if math.isfinite(age) else None
