"""The tables of docs/performance.md, from the stored rows of the benchmarks."""

import json
from pathlib import Path

from benchmarks import side_by_side as bench

PAGE = bench.ROOT / "docs" / "performance.md"
ORDER = "throughput arithmetic sam_step surface keskar report sweep growth estimates".split()
TITLES = {
    "throughput": "Training throughput of a sweep",
    "arithmetic": "Arithmetic used, one core",
    "sam_step": "One SAM step over one SGD step",
    "surface": "Filter-normalized surface",
    "keskar": "Keskar's metric",
    "report": "A published report, rebuilt",
    "sweep": "Sweep over the cores",
    "growth": "Growth: exponent of seconds over size, between the two largest",
    "estimates": "Time taken over the time estimated",
}
KIND = ("processor", "instructions", "cores", "memory_gb", "system")


def stored(folder: Path = bench.RESULTS) -> dict[str, dict]:
    """Return the results there are, in the order of the page."""
    files = {name: folder / f"{name}.json" for name in ORDER}
    return {n: json.loads(f.read_text(encoding="utf-8")) for n, f in files.items() if f.is_file()}


def table(head: list[str], rows: list[list]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def kind(result: dict) -> str:
    """Return the kind of machine a result was taken on."""
    return "{}, {}, {} cores, {} GB, {}".format(*(result["machine"][key] for key in KIND))


def machines(results: dict[str, dict]) -> str:
    """Return the kinds of machine and the versions the results were taken with."""
    kinds, versions = dict.fromkeys(map(kind, results.values())), {}
    for result in results.values():
        for name in result["machine"].keys() - set(KIND):
            versions.setdefault(name, {})[result["machine"][name]] = None
    listed = ", ".join(f"{name} {' and '.join(versions[name])}" for name in sorted(versions))
    return f"Measured on: {'; '.join(kinds)}. Versions: {listed}."


def ratios(rows: list[dict]) -> str:
    """Return the table of measured values and their targets."""
    head = ["what", "against", "median [range over repeats]", "target", ""]
    lines = [
        [r["what"], r["against"], bench.measured(r), bench.target(r), bench.verdict(r)]
        for r in rows
    ]
    return table(head, lines)


def rates(rows: list[dict]) -> str:
    """Return what stands behind the ratios: the rates of both sides."""
    shown = [row for row in rows if "ours" in row and "theirs" in row]
    lines = [
        [r["what"], r["against"], f"{r['ours']['median']:,.4g}", f"{r['theirs']['median']:,.4g}"]
        + [r["rate"]]
        for r in shown
    ]
    return table(["what", "against", "ours", "theirs", "unit"], lines) if lines else ""


def parts(rows: list[dict]) -> str:
    """Return the seconds of a report's parts."""
    names = list(rows[0]["parts"])
    lines = [[row["what"], *(f"{row['parts'][name]:.2f}" for name in names)] for row in rows]
    return table(["seconds (median)", *names], lines)


def sizes(rows: list[dict]) -> str:
    """Return seconds and memory by size."""
    lines = [
        [row["what"], f"{size:,} {row['against']}", f"{seconds:.3g}", f"{mb:,.0f}"]
        for row in rows
        for size, seconds, mb in zip(row["sizes"], row["seconds"], row["peak_mb"], strict=True)
    ]
    ends = [[r["what"], r["against"], f"{r['memory_exponent']:.2f}"] for r in rows]
    small = table(["what", "over", "exponent of peak memory"], ends)
    return small + "\n\n" + table(["what", "size", "seconds", "peak MB"], lines)


DETAILS = {"throughput": rates, "sam_step": rates, "surface": rates, "keskar": rates}
DETAILS |= {"report": parts, "growth": sizes}


def text(results: dict[str, dict]) -> str:
    """Return what stands between the markers."""
    if not results:
        return "Nothing is measured yet."
    blocks, several = [machines(results)], len(set(map(kind, results.values()))) > 1
    for name, result in results.items():
        blocks += [f"### {TITLES[name]}", f"On {kind(result)}." if several else ""]
        blocks.append(ratios(result["rows"]))
        if name in DETAILS:
            blocks.append(DETAILS[name](result["rows"]))
    return "\n\n".join(block for block in blocks if block)


def main() -> None:
    from bsglib.index import update_marked

    update_marked(PAGE, "measured", "\n" + text(stored()) + "\n")
    print(PAGE.relative_to(bench.ROOT))


if __name__ == "__main__":
    main()
