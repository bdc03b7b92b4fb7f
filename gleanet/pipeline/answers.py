"""What the float file and the one that the run delivers say about the test images, kept for the report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gleanet.core.answers import answers_of
from gleanet.core.files import write_bytes
from gleanet.core.records import dumps
from gleanet.core.store import ANSWERS
from gleanet.data import ImageSet
from gleanet.data.thumbnail import SIDE, png


def keep_answers(folder: Path, files: Sequence[str], found: Sequence[NDArray[np.int64] | None], test: ImageSet) -> None:
    """Write ``answers.json`` into a run's folder; nothing where one of the two was not asked about images.

    Args:
        files: names of two files, the float one first.
        found: what each answered, [N] int64.
        test: the images they were asked about.

    Raises:
        StoreError: the folder cannot be written.
    """
    before, after = found
    if before is None or after is None:
        return
    answers = answers_of((files[0], files[1]), before, after, test.labels, test.classes)
    pictures = tuple(replace(image, png=png(test.images[image.index], SIDE)) for image in answers.changed)
    write_bytes(folder / ANSWERS, dumps(replace(answers, changed=pictures)))
