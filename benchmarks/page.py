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


def steps_on_gpu(rows: list[dict]) -> str:
    """Return what a step costs as part of a graph, alone and in flight, and otherwise."""
    head = ["network", "B", "precision", "in flight", "graph", "eager", "idiomatic", "compiled"]
    head = [*head[:3], *(f"{name}, ms" for name in head[3:]), "samples/s", "difference"]
    lines = []
    for row in rows:
        sam = ", SAM" if row["sam"] else ""
        times = ("in_flight_ms", "graph_ms", "eager_ms", "idiomatic_ms", "compiled_ms")
        times = [f"{row[name]:.3g}" if name in row else "" for name in times]
        rate = row.get("samples_per_s", 1e3 * row["batch_size"] / row["graph_ms"])
        line = [row["network"] + sam, f"{row['batch_size']:,}", row["dtype"], *times]
        lines.append([*line, f"{rate:,.3g}", f"{row['graph_difference']:.2g}"])
    return table(head, lines)


def solvers_on_gpu(rows: list[dict]) -> str:
    """Return both solvers of a measure side by side: values, evaluations, seconds."""
    pairs: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        options = [f"{name} {row[name]:g}" for name in ("subspace", "epsilon") if name in row]
        key = row["network"], ", ".join([row["measure"], *options])
        pairs.setdefault(key, {})[row.get("solver", "torch")] = row
    head = ["network", "measure", "torch", "scipy", "torch / scipy - 1", "evaluations"]
    head += ["torch, s", "scipy, s"]
    lines = []
    for (network, measure), both in pairs.items():
        ours, theirs = both["torch"], both.get("scipy", {})
        values = [f"{row['value']:.5g}" if row else "" for row in (ours, theirs)]
        ratio = f"{100 * (ours['value'] / theirs['value'] - 1):.2g} %" if theirs else ""
        counts = " and ".join(str(r["evaluations"]) for r in (ours, theirs) if "evaluations" in r)
        times = [f"{row['seconds']:.2g}" if row else "" for row in (ours, theirs)]
        lines.append([network, measure, *values, ratio, counts, *times])
    return table(head, lines)


def on_gpu(result: dict) -> str:
    """Return what stands between the markers of the part on GPUs."""
    machine, ceilings, part = (result[name] for name in ("machine", "ceilings", "part"))
    names = [name.replace("_", " ").replace(" gb s", ", GB/s") for name in ceilings]
    names = [name.replace(" tflop s", ", TFLOP/s") for name in names]
    rate, share = part["updates"] / part["training_seconds"], part["busy_percent"]
    text = (
        f"Part 1 of `{part['study']}`, {' and '.join(part['networks'])}: {part['runs']} runs of "
        f"{part['epochs']} epochs and {part['measures']} of {part['measures_planned']} measures in "
        f"{part['seconds']} s, of which training {part['training_seconds']} s "
        f"({rate:,.0f} updates per second), by {part['processes']} processes at once; the device "
        f"said that it was busy {share} % of the time."
    )
    blocks = [
        f"Measured on one {machine['processor']}, torch {machine['torch_version']}, once.",
        table(names, [[f"{value:.4g}" for value in ceilings.values()]]),
        steps_on_gpu(result["steps"]),
        solvers_on_gpu(result["solvers"]),
        text,
    ]
    return "\n\n".join(blocks)


def stored_on_gpu() -> dict:
    """Return the result of `benchmarks.gpu_steps` and of one part."""
    return json.loads((bench.RESULTS / "gpu.json").read_text(encoding="utf-8"))


def main() -> None:
    from bsglib.pages.index import update_marked

    update_marked(PAGE, "measured", "\n" + text(stored()) + "\n")
    update_marked(PAGE, "gpu", "\n" + on_gpu(stored_on_gpu()) + "\n")
    print(PAGE.relative_to(bench.ROOT))


if __name__ == "__main__":
    main()
