"""Write every generated table and picture of README and docs from the result files in ``benchmarks/results``.

    python benchmarks/tables.py            # write
    python benchmarks/tables.py --check    # exit 1 where a file would change

A generated block stands between ``<!-- NAME: ... -->`` and ``<!-- /NAME -->``.
"""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import activation_tables
import frameworks_tables
import papers_page
import pruning_tables
import quantization_tables
import streaming_tables

from gleanet.core.records import Run, read_record
from gleanet.core.settings import command_line
from gleanet.report import baseline, picture, table, units

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
MAIN_CASE = "resnet20-recovered"


def main() -> int:
    """Write or check all targets; returns an exit code."""
    wanted = targets()
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        sys.stderr.writelines(f"{path.relative_to(ROOT)} is not what `python benchmarks/tables.py` writes\n" for path in stale)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    return 0


def targets() -> dict[Path, str]:
    """Every generated file with the text it should hold."""
    runs = {path.stem: read_record(path, Run) for path in sorted((RESULTS / "main_job").glob("*.json"))}
    if MAIN_CASE not in runs:
        return {}
    readme, evidence = ROOT / "README.md", ROOT / "docs" / "evidence.md"
    main_run = runs[MAIN_CASE]
    # a pair of its own, made by one version of the code: the main job's record is renewed more often
    taught, alone = (read_record(RESULTS / "teacher" / f"resnet20-recovered-{name}.json", Run) for name in ("taught", "alone"))
    throughput = json.loads((RESULTS / "train_throughput.json").read_text(encoding="utf-8"))
    pruning = json.loads((RESULTS / "pruning_speed.json").read_text(encoding="utf-8"))
    evidence_text = evidence.read_text(encoding="utf-8")
    blocks = {
        "throughput": throughput_text(throughput),
        "train_time": train_time_text(json.loads((RESULTS / "train_time.json").read_text(encoding="utf-8"))),
        "pruning_speed": pruning_text(pruning),
        "teacher": teacher_table({"no teacher": alone, "the given network as teacher": taught}),
        "main_job": "\n\n".join(f"### {name}\n\n`{command(run)}`\n\n{result_table(run)}\n\n{caption(run)}" for name, run in runs.items()),
        **pruning_tables.texts(),
        **quantization_tables.texts(),
        **activation_tables.texts(),
        **frameworks_tables.texts(),
        **streaming_tables.texts(),
    }
    for name, content in blocks.items():
        evidence_text = block(evidence_text, name, content)
    imagenet = ROOT / "docs" / "imagenet.md"
    imagenet_text = imagenet.read_text(encoding="utf-8")
    for name, content in streaming_tables.page_texts().items():
        imagenet_text = block(imagenet_text, name, content)
    readme_text = block(readme.read_text(encoding="utf-8"), "main_job", f"{result_table(main_run)}\n\n{caption(main_run)}")
    return {
        readme: block(readme_text, "oneshot_summary", pruning_tables.oneshot_summary()),
        evidence: evidence_text,
        imagenet: imagenet_text,
        ROOT / "docs" / "papers.md": papers_page.text(),
        ROOT / "docs" / "result.svg": picture(main_run),
    }


def teacher_table(runs: dict[str, Run]) -> str:
    """Accuracy of the fine-tuned rows of runs that differ in their teacher."""
    lines = ["| recovery | network as given | fine-tuned | pruned and recovered |", "| --- | --- | --- | --- |"]
    for name, run in runs.items():
        found = {row.role: row.measured.accuracy for row in run.rows}
        lines.append(f"| {name} | " + " | ".join(units.accuracy(found[role]) for role in ("given", "fine-tuned", "recovered")) + " |")
    return "\n".join(lines)


def throughput_text(found: dict[str, Any]) -> str:
    """Images per second of our loop and of a bare one, with what they were measured under."""
    speed, ratio, settings = found["images_per_s"], found["fit_over_bare"], found["settings"]
    return (
        "| loop | images/s | relative to bare (median of rounds, lowest to highest) |\n| --- | --- | --- |\n"
        f"| bare PyTorch | {speed['bare']:.0f} | 1 |\n"
        f"| `gleanet.train.fit` | {speed['fit']:.0f} | {ratio['median']:.3f} ({ratio['lowest']:.3f} to {ratio['highest']:.3f}) |\n\n"
        f"{settings['model']}, batch {settings['batch_size']}, {settings['threads']} thread(s), {settings['data']}, "
        f"{ratio['rounds']} interleaved rounds of {settings['steps']} steps. {found['machine']['cpu']}, torch {found['versions']['torch']}."
    )


def train_time_text(found: dict[str, Any]) -> str:
    """Milliseconds of each phase of a training step and, where there was a GPU, operations a second beside the published recipes."""
    trainings, settings = found["trainings"], found["settings"]
    phases = list(trainings[0]["ms"])
    lines = [f"| training | {' | '.join(phases)} | images/s |", "| --- |" + " --- |" * (len(phases) + 1)]
    for each in trainings:
        cells = [f"{each['ms'][phase]:.2f} ms ({100 * each['share'][phase]:.1f} %)" for phase in phases]
        where = f"{settings['threads']} thread(s)" if each["device"] == "cpu" else each["device"]
        name = f"{each['model']}, batch {each['batch_size']}, {each['precision']}, {where}"
        lines.append(f"| {name} | {' | '.join(cells)} | {each['images_per_s']:,.0f} |")
    note = f" {settings['note']}" if settings["note"] else ""
    lines += ["", f"Median of {trainings[0]['steps']} steps (share of the whole time), {settings['data']}. {found['machine']['cpu']}, "]
    lines[-1] += f"torch {found['versions']['torch']}.{note}"
    if found["tera_operations_per_s"]:
        lines += ["", "| on one GPU | 10^12 operations/s |", "| --- | --- |"]
        lines += [f"| {name} | {value:.0f} |" for name, value in found["tera_operations_per_s"].items()]
    return "\n".join(lines)


def pruning_text(found: dict[str, Any]) -> str:
    """Seconds from a network to a smaller one, ours and Torch-Pruning's, with what they were measured under."""
    lines = [
        "| pruned | gleanet | Torch-Pruning | ours to theirs (median of rounds, lowest to highest) |",
        "| --- | --- | --- | --- |",
    ]
    for name, each in found["widths"].items():
        seconds, ratio = each["median_seconds"], each["gleanet_over_torch_pruning"]
        lines.append(
            f"| {name} | {seconds['gleanet']:.3f} s | {seconds['torch-pruning']:.3f} s | "
            f"{ratio['median']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f}) |"
        )
    settings, versions = found["settings"], found["versions"]
    rounds = min(each["gleanet_over_torch_pruning"]["rounds"] for each in found["widths"].values())
    return "\n".join(lines) + (
        f"\n\n{settings['model']}, {settings['pixels']} x {settings['pixels']} pixels, {settings['target']:.0%} of the MACs, "
        f"{settings['threads']} thread, {rounds} interleaved rounds. {found['machine']['cpu']}, torch {versions['torch']}, "
        f"Torch-Pruning {versions['torch-pruning']}."
    )


def block(text: str, name: str, content: str) -> str:
    """``text`` with the generated block ``name`` replaced."""
    pattern = re.compile(rf"(<!-- {name}:[^\n]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no block {name!r} to write to")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def result_table(run: Run) -> str:
    """The result table of a run as Markdown, with the strings that terminal and report show."""
    shown = table(run.rows, baseline(run.rows))
    lines = ["| " + " | ".join(shown.header) + " |", "|" + " --- |" * len(shown.header)]
    lines += ["| " + " | ".join(cells) + " |" for cells in shown.cells]
    return "\n".join(lines)


def command(run: Run) -> str:
    """The command that made a run, without the folders of the machine it ran on."""
    weights = Path(run.settings["weights"]).name
    return shlex.join(["gleanet", *(command_line(run.command, {**run.settings, "weights": weights}) or [])])


def caption(run: Run) -> str:
    """Data, machine, versions, time and notes: what a figure must come with."""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items() if name != "gleanet")
    machine = run.machine
    latencies = run.rows[0].measured.latencies
    repeats = min(latency.repeats for row in run.rows for latency in row.measured.latencies)
    return (
        f"{run.data['title']}, {run.data['test']:,} test images, seed {run.settings['seed']}. {machine['cpu']}, {machine['cores']} cores, "
        f"{' '.join(machine['isa'])}; {latencies[0].threads} thread, medians of at least {repeats} interleaved calls; {versions}. "
        f"The whole command took {run.seconds / 60:.1f} minutes. " + " ".join(run.notes)
    )


if __name__ == "__main__":
    sys.exit(main())
