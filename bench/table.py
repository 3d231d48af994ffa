"""What was measured beside what was wanted, in columns."""

from collections.abc import Sequence

Row = tuple[str, str, str]


def table(rows: Sequence[Row]) -> str:
    lines = [("what", "measured", "target"), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
