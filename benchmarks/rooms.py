"""The structure of the code: rooms, the imports between them, circles, and imports against the declared order.

    python -m benchmarks.rooms [--root .]

A room is a folder directly below a layer (service, graphs, workers, models) with everything nested in it, or a Python
file directly below the layer. An arrow from one room to another means that at least one file of the first imports the
second; imports inside functions and those for types only count as well. The declared order is the table
`[tool.veridask.rooms]` of pyproject.toml.

Reads the source with `ast` and imports none of it. Exit status: 1 when there is a circle or an arrow against the
order, else 0. `tests/project/test_layers.py` asserts on the same analysis.
"""

from __future__ import annotations

import argparse
import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from rich.console import Console
from rich.table import Table

MOST_FILES = 20
"""Python files in one folder; more are hard to find one's way in."""
_OTHER_FOLDERS = ("benchmarks", "tests")
"""Folders whose size is measured too, although they are no layers."""

Arrows = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Room:
    """One room. files: Python files in it, without `__init__.py` files that hold only a docstring. floor: rooms on the
    longest path of arrows that ends here, itself included; 0 where the layer has a circle. imports: rooms of the same
    layer, sorted.
    """

    name: str
    files: int
    floor: int
    imports: tuple[str, ...]


@dataclass(frozen=True)
class Against:
    """An import against the order. source, target: rooms as `layer.room`; files: those that import, relative to the
    root.
    """

    source: str
    target: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """One layer. rooms: lowest floor first, a topological order; by name where there is a circle. circle: rooms of one
    circle, first and last the same; empty without a circle. against: arrows that point up in the declared order.
    undeclared: rooms that the declared order lacks; missing: declared rooms that do not exist. Layers without a
    declared order have none of these three.
    """

    name: str
    rooms: tuple[Room, ...]
    circle: tuple[str, ...]
    against: tuple[Against, ...]
    undeclared: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def arrows(self) -> int:
        """Pairs of rooms of which one imports the other."""
        return sum(len(room.imports) for room in self.rooms)

    @property
    def floors(self) -> int:
        """Rooms on the longest path of arrows; 0 where there is a circle."""
        return max((room.floor for room in self.rooms), default=0)


@dataclass(frozen=True)
class Rooms:
    """The whole. layers: lowest first. against: imports of a higher layer. large: folders of more than MOST_FILES
    Python files with their number, largest first. allowed: the folders that pyproject.toml excepts, with the reason.
    """

    layers: tuple[Layer, ...]
    against: tuple[Against, ...]
    large: tuple[tuple[str, int], ...]
    allowed: Mapping[str, str]

    @property
    def all_against(self) -> tuple[Against, ...]:
        """Every arrow against the order, between layers and within them."""
        return self.against + tuple(one for layer in self.layers for one in layer.against)

    @property
    def sound(self) -> bool:
        """Whether there is neither a circle nor an arrow against the order."""
        return not self.all_against and not any(layer.circle for layer in self.layers)


def measure(root: Path) -> Rooms:
    """Analyse a checkout. root: the folder with pyproject.toml and the layers.

    Raises FileNotFoundError without a pyproject.toml, KeyError when it lacks the table `[tool.veridask.rooms]`, and
    SyntaxError for a file that is not valid Python.
    """
    with (root / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["tool"]["veridask"]["rooms"]
    names: tuple[str, ...] = tuple(declared["layers"])
    imports = {name: _imports_of(root, name, names) for name in names}
    above = [
        Against(source, target, files)
        for position, name in enumerate(names)
        for (source, target), files in imports[name].items()
        if target.partition(".")[0] in names[position + 1 :]
    ]
    return Rooms(
        tuple(_layer(root, name, imports[name], declared.get(name)) for name in names),
        tuple(above),
        tuple(_large(root, (*names, *_OTHER_FOLDERS))),
        declared.get("large_folders", {}),
    )


def holds_code(file: Path) -> bool:
    """False for an `__init__.py` that is empty or holds only a docstring."""
    if file.name != "__init__.py":
        return True
    body = ast.parse(file.read_text("utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def imported_modules(file: Path, package: str) -> set[str]:
    """Dotted names that a file imports; `from a import b` gives both `a` and `a.b`. package: of the file, dotted; it
    resolves relative imports.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def _python_files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*.py")) if holds_code(file))


def _room_of(root: Path, file: Path) -> str:
    """`layer.room` of a file."""
    layer, *rest = file.relative_to(root).with_suffix("").parts
    return f"{layer}.{rest[0]}"


def _imports_of(root: Path, layer: str, layers: Sequence[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Which room imports which, both as `layer.room`, with the files that do it. Imports of other packages are left
    out.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for file in _python_files(root / layer):
        relative = file.relative_to(root)
        source = _room_of(root, file)
        modules = imported_modules(file, ".".join(relative.parent.parts))
        targets = {target for module in modules if (target := _target(root, module, layers)) is not None}
        for target in targets - {source}:
            found.setdefault((source, target), []).append(str(relative))
    return {arrow: tuple(files) for arrow, files in sorted(found.items())}


def _target(root: Path, module: str, layers: Sequence[str]) -> str | None:
    """The room that a dotted name lies in; None when it is of no layer or names a layer alone."""
    layer, *rest = module.split(".")
    if layer not in layers or not rest:
        return None
    there = root / layer / rest[0]
    return f"{layer}.{rest[0]}" if there.is_dir() or there.with_suffix(".py").is_file() else None


def _layer(
    root: Path, name: str, imports: Mapping[tuple[str, str], tuple[str, ...]], order: Sequence[str] | None
) -> Layer:
    files: dict[str, int] = {}
    for file in _python_files(root / name):
        room = _room_of(root, file).partition(".")[2]
        files[room] = files.get(room, 0) + 1
    within = {
        (source.partition(".")[2], target.partition(".")[2]): by
        for (source, target), by in imports.items()
        if target.partition(".")[0] == name
    }
    arrows = {room: frozenset(target for source, target in within if source == room) for room in files}
    circle = _circle(arrows)
    floors = dict.fromkeys(files, 0) if circle else _floors(arrows)
    place = {room: position for position, room in enumerate(order or sorted(files))}
    rooms = sorted(files, key=lambda room: (floors[room], place.get(room, len(place)), room))
    against = [
        Against(f"{name}.{source}", f"{name}.{target}", by)
        for (source, target), by in within.items()
        if order is not None and place.get(source, -1) < place.get(target, -1)
    ]
    return Layer(
        name,
        tuple(Room(room, files[room], floors[room], tuple(sorted(arrows[room]))) for room in rooms),
        circle,
        tuple(against),
        tuple(room for room in rooms if room not in place),
        tuple(room for room in place if room not in files),
    )


def _circle(arrows: Arrows) -> tuple[str, ...]:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return tuple(error.args[1])
    return ()


def _floors(arrows: Arrows) -> dict[str, int]:
    """Length of the longest path from each room down, in rooms: 1 for a room that imports none."""
    floors: dict[str, int] = {}
    for room in TopologicalSorter(arrows).static_order():
        floors[room] = 1 + max((floors[below] for below in arrows.get(room, ())), default=0)
    return floors


def _large(root: Path, tops: Sequence[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for top in tops:
        for file in _python_files(root / top):
            folder = str(file.parent.relative_to(root))
            counts[folder] = counts.get(folder, 0) + 1
    return sorted(((folder, n) for folder, n in counts.items() if n > MOST_FILES), key=lambda one: (-one[1], one[0]))


def _table(layer: Layer) -> Table:
    table = Table("floor", "room", "files", "imports", title=layer.name, title_justify="left")
    for room in layer.rooms:
        table.add_row(str(room.floor), room.name, str(room.files), ", ".join(room.imports) or "–")
    return table


def _print(rooms: Rooms, console: Console) -> None:
    for layer in reversed(rooms.layers):
        console.print(_table(layer))
        console.print(f"{len(layer.rooms)} rooms, {layer.arrows} arrows, {layer.floors} floors")
        console.print(f"circle: {' → '.join(layer.circle)}" if layer.circle else "no circle")
        if layer.undeclared:
            console.print(f"not in the declared order: {', '.join(layer.undeclared)}")
        if layer.missing:
            console.print(f"declared but missing: {', '.join(layer.missing)}")
        console.print()
    counts = (sum(len(layer.rooms) for layer in rooms.layers), sum(layer.arrows for layer in rooms.layers))
    console.print(f"all layers: {counts[0]} rooms, {counts[1]} arrows within layers")
    for one in rooms.all_against:
        console.print(f"against the order: {one.source} → {one.target} in {', '.join(one.files)}")
    if not rooms.all_against:
        console.print("no arrow against the order")
    for folder, number in rooms.large:
        console.print(f"{folder}: {number} Python files; {rooms.allowed.get(folder, f'more than {MOST_FILES}')}")


def main() -> int:
    """Print the analysis and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="checkout to analyse")
    rooms = measure(parser.parse_args().root)
    _print(rooms, Console(soft_wrap=True, highlight=False))
    return 0 if rooms.sound else 1


if __name__ == "__main__":
    raise SystemExit(main())
