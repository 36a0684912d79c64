"""Our reading of machine readable zones beside that of others, on the same pictures, in one table.

    pip install -e '.[peers]'      (and the program: apt-get install tesseract-ocr)
    python -m benchmarks.checks.mrz_peers --data ../shared/data [--tessdata FILE.traineddata]

- PassportEye: `read_mrz` as it comes; accepted where it calls its zone valid.
- tesseract with its English model, and with the model of `--tessdata` if one is given, which may be trained on MRZs.
- rapidocr, the same packaged networks that our reader's recogniser is taken from, used as they come.

The last two read the whole picture in four quarter turns, restricted to the MRZ's characters where they can be, until
one is accepted; `zone_in` then does for them what a good user of theirs would do: it puts lines together, brings them
to a format's lengths where fillers were miscounted, and mends misread characters by the check digits with this
project's own `models.mrz.repair`. Accepted means that every check digit holds. What counts as exact is said in
`graphs.evaluation.mrz`.

Times are CPU time of this process and of the programs that it starts, which on one thread of an idle machine is wall
time. A peer that raises on a picture has read nothing of it.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from rapidocr import RapidOCR
from rapidocr.utils.output import RapidOCROutput
from rich.console import Console
from rich.table import Table

from graphs.evaluation.mrz import MrzSuite
from graphs.evaluation.suite import Measured, Source
from models.mrz.check_digits import ALPHABET
from models.mrz.reader import MrzReader
from models.mrz.repair import evidence_of_text, repair

_FORMATS = ((30, 30, 30), (44, 44), (36, 36))
_SLACK = 4
"""Characters that a line may be longer or shorter than its format and still be brought to it by its fillers."""
_ERROR_RATE = 0.02
"""Of characters read, for `repair`: from here on a check digit may change one."""
_FILLERS = str.maketrans(dict.fromkeys("«‹《〈＜≪く", "<"))
"""What readers trained on other writing make of a filler."""
_LEAST_SIDE = 1500
"""Pixels of the longer side that tesseract is given at least: its models want letters of 20 to 40 pixels."""


UInt8 = npt.NDArray[np.uint8]


class Answer(NamedTuple):
    """lines: of the zone, empty where none is seen; accepted: every check digit holds; refusal: why not, or what the
    reader raised.
    """

    lines: tuple[str, ...]
    accepted: bool
    refusal: str = ""


Read = Callable[[Path, UInt8], Answer]
"""Reads a picture: its path, and uint8 (H, W, 3) RGB."""


class AbsentError(Exception):
    """A peer that is not installed; says what is missing."""


def zone_in(texts: Sequence[str]) -> Answer:
    """The zone in the lines of a page, from top to bottom: the first whose check digits all hold after repair, else
    the first that has a format at all.
    """
    seen = Answer((), False)
    for lines in _candidates(texts):
        found = repair(evidence_of_text(lines, _ERROR_RATE))
        if found is None:
            continue
        answer = Answer(found.mrz.lines, found.mrz.checks.passed, found.refusal)
        if answer.accepted:
            return answer
        if not seen.lines:
            seen = answer
    return seen


def _candidates(texts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Neighbouring lines that can be brought to the lengths of one format."""
    lines = [re.sub(f"[^{ALPHABET}]", "", text.upper().translate(_FILLERS)) for text in texts]
    lines = [line for line in lines if len(line) >= _FORMATS[0][0] - _SLACK]
    for lengths in _FORMATS:
        for start in range(len(lines) - len(lengths) + 1):
            fitted = [_fitted(line, length) for line, length in zip(lines[start:], lengths, strict=False)]
            whole = tuple(line for line in fitted if line is not None)
            if len(whole) == len(lengths):
                yield whole


def _fitted(line: str, length: int) -> str | None:
    """The line with its longest run of fillers made longer or shorter; None where that does not give the length."""
    if len(line) == length:
        return line
    runs = sorted(re.finditer("<+", line), key=lambda run: run.end() - run.start())
    if not runs or abs(len(line) - length) > _SLACK:
        return None
    run = runs[-1]
    count = run.end() - run.start() + length - len(line)
    return line[: run.start()] + "<" * count + line[run.end() :] if count > 0 else None


def _turning(read_lines: Callable[[UInt8], Sequence[str]]) -> Read:
    """A reader of whole pictures, tried in four quarter turns. read_lines: of uint8 (H, W, 3) RGB, top to bottom."""

    def read(_: Path, image: UInt8) -> Answer:
        seen = Answer((), False)
        for quarters in range(4):
            answer = zone_in(read_lines(np.ascontiguousarray(np.rot90(image, quarters))))
            if answer.accepted:
                return answer
            if not seen.lines:
                seen = answer
        return seen

    return read


def rapidocr_reader() -> Read:
    """rapidocr with its defaults, on one thread."""
    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    engine = RapidOCR(params={"Global.log_level": "critical", **threads})

    def read_lines(image: UInt8) -> list[str]:
        found = engine(np.ascontiguousarray(image[..., ::-1]))
        if not isinstance(found, RapidOCROutput) or not found.txts:
            return []
        return _joined(np.asarray(found.boxes, np.float32), found.txts)

    return _turning(read_lines)


def _joined(boxes: npt.NDArray[np.float32], texts: Sequence[str]) -> list[str]:
    """Pieces of text whose middles lie at one height are one line. boxes: float32 (K, 4, 2), pixels."""
    middles, heights = boxes[..., 1].mean(axis=1), np.ptp(boxes[..., 1], axis=1)
    lines: list[list[int]] = []
    for index in np.argsort(middles, kind="stable").tolist():
        if lines and middles[index] - middles[lines[-1][0]] < heights[lines[-1][0]] / 2:
            lines[-1].append(index)
        else:
            lines.append([index])
    lefts = boxes[..., 0].min(axis=1)
    return ["".join(texts[index] for index in sorted(line, key=lambda i: float(lefts[i]))) for line in lines]


def tesseract_reader(model: Path | None) -> Read:
    """tesseract over the whole picture as one block of text. model: a .traineddata file, None for the English one that
    is installed. AbsentError without the program or its binding.
    """
    try:
        import pytesseract
    except ImportError as missing:
        raise AbsentError("pytesseract is not installed") from missing
    try:
        pytesseract.get_tesseract_version()
        if model is None and "eng" not in pytesseract.get_languages():
            raise AbsentError("tesseract has no English model")
    except pytesseract.TesseractNotFoundError as missing:
        raise AbsentError("the tesseract program is not installed") from missing
    config = f"--psm 6 -c tessedit_char_whitelist={ALPHABET} -c load_system_dawg=F -c load_freq_dawg=F"
    if model is not None:
        config += f" --tessdata-dir {model.parent}"
    language = model.stem if model else "eng"

    def read_lines(image: UInt8) -> list[str]:
        scale = _LEAST_SIDE / max(image.shape[:2])
        if scale > 1:
            image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
        return list(pytesseract.image_to_string(image, lang=language, config=config).splitlines())

    return _turning(read_lines)


def passporteye_reader() -> Read:
    """PassportEye as it comes. AbsentError without it or without the tesseract program that it calls."""
    try:
        import pytesseract
        from passporteye import read_mrz
        from passporteye.mrz.text import MRZOCRCleaner

        pytesseract.get_tesseract_version()
    except (ImportError, OSError) as missing:
        raise AbsentError(f"not installed: {missing}") from missing

    def read(path: Path, _: UInt8) -> Answer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it calls what scikit-image 0.27 takes away
            found = read_mrz(str(path))
        if found is None:
            return Answer((), False)
        return Answer(tuple(MRZOCRCleaner.apply(found.aux["text"])), found.valid)

    return read


def _survivor(read: Read) -> Read:
    """The reader with nothing read where it raises: it is others' code, and the comparison goes on."""

    def guarded(path: Path, image: UInt8) -> Answer:
        try:
            return read(path, image)
        except Exception as error:
            return Answer((), False, type(error).__name__)

    return guarded


def _cpu_seconds() -> float:
    """CPU time so far of this process and of those it started that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def our_reader() -> Read:
    """This project's."""
    reader = MrzReader()

    def read(_: Path, image: UInt8) -> Answer:
        reading = reader.read([image], any_angle=True)
        return Answer((), False) if reading is None else Answer(reading.lines, reading.accepted, reading.refusal)

    return read


def measured_with(read: Read, data: Path) -> list[Measured]:
    """Every picture of `mrz_images.csv` in the folder, read by this reader."""
    found = []
    for job in MrzSuite().jobs(Source(folder=data)):
        image = cv2.imdecode(np.frombuffer(job.arguments[0], np.uint8), cv2.IMREAD_COLOR_RGB)
        start = _cpu_seconds()
        answer = read(data / job.item, np.asarray(image, np.uint8))
        found.append(Measured(job.item, job.group, job.truth, _cpu_seconds() - start, answer._asdict()))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when the data is absent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with mrz_images.csv")
    parser.add_argument("--tessdata", type=Path, help="a .traineddata file for one more row of tesseract")
    options = parser.parse_args(arguments)
    if not (options.data / "mrz_images.csv").is_file():
        print(f"no mrz_images.csv in {options.data}")
        return 1
    os.environ["OMP_THREAD_LIMIT"] = "1"  # tesseract's threads
    cv2.setNumThreads(0)
    makers: dict[str, Callable[[], Read]] = {
        "veridask": our_reader,
        "rapidocr + repair": rapidocr_reader,
        "tesseract eng + repair": lambda: tesseract_reader(None),
        "PassportEye": passporteye_reader,
    }
    if options.tessdata:
        makers[f"tesseract {options.tessdata.stem} + repair"] = lambda: tesseract_reader(options.tessdata)
    table = Table(title="Machine readable zones: distinct texts, pictures, CPU milliseconds a picture")
    table.add_column("reader", no_wrap=True)
    suite, console = MrzSuite(), Console()
    for column in ("texts", "exact", "accepted but wrong", "not read", "pictures exact", "median / largest ms"):
        table.add_column(column, justify="right")
    for name, make in makers.items():
        try:
            read = make()
        except AbsentError as absent:
            table.add_row(f"{name}: {absent}")
            continue
        found = measured_with(_survivor(read), options.data)
        table.add_row(name, *suite.report(found).tables[0].rows[0])
        raised = sorted(
            {one.figures["refusal"] for one in found if not one.figures["lines"] and one.figures["refusal"]}
        )
        console.print(f"{name}: done{', raised ' + ', '.join(raised) if raised else ''}")
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
