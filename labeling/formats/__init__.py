"""Labels in other tools' files: read, written, and what was lost on the way.

plan = inspect(folder)          # pictures with their labels and split, classes, problems
losses = FORMATS["coco"].write(dataset, folder)
"""

from labeling.formats.base import Dataset, Format, ImageLabels, Problem, UnreadableFileError
from labeling.formats.coco import Coco
from labeling.formats.dlc import Dlc
from labeling.formats.folder import FORMATS, FolderPlan, PlannedPicture, inspect, join
from labeling.formats.jsonl import Jsonl
from labeling.formats.report import LossReport
from labeling.formats.voc import Voc, read_splits

__all__ = [
    "FORMATS",
    "Coco",
    "Dataset",
    "Dlc",
    "FolderPlan",
    "Format",
    "ImageLabels",
    "Jsonl",
    "LossReport",
    "PlannedPicture",
    "Problem",
    "UnreadableFileError",
    "Voc",
    "inspect",
    "join",
    "read_splits",
]
