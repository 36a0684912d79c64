"""The command line: `veridask serve`, `api`, `keys`, `verify`, `demo`, `evaluate`, `doctor`, `certs`, `reseal`,
`autoscale`, `audit`, `db`.

Settings come from `VERIDASK_…`; options override.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from graphs.records import Step
from models.errors import VeridaskError
from service.cli import audit as audit_cli
from service.cli import database as db_cli
from service.cli import keys as keys_cli
from service.client import VeridaskClient
from service.cluster.kubernetes import SERVICE_ACCOUNT, KubernetesGroups
from service.observability.logs import configure
from service.schemas.cases import CaseView
from service.server.local import LocalServer
from service.server.serve import serve
from service.settings.settings import Settings
from workers.autoscale import Bounds, Rules
from workers.placement import CPU, GPU

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Automatic identity verification.")
app.add_typer(keys_cli.app, name="keys")
app.add_typer(audit_cli.app, name="audit")
app.add_typer(db_cli.app, name="db")
console = Console()

_COLOURS = {"approved": "green", "declined": "red", "review": "yellow", "resubmission_requested": "yellow"}


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind; 0 chooses a free one.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Join this Dask cluster instead of starting one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the case store and the evidence.")] = None,
) -> None:
    """Start the API and, unless a scheduler is named, a cluster on this machine."""
    _serve({"host": host, "port": port, "scheduler": scheduler, "data_dir": data_dir})


@app.command("api")
def api_command(
    scheduler: Annotated[
        str,
        typer.Option(help="Scheduler of the cluster, or several cells as name=address,…", envvar="VERIDASK_SCHEDULER"),
    ],
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind; 0 chooses a free one.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder, shared by all API processes on this host.")
    ] = None,
) -> None:
    """Start one of several API processes that share a case store and evidence and join a cluster."""
    _serve({"host": host, "port": port, "scheduler": scheduler, "data_dir": data_dir})


def _settings(given: dict[str, Any]) -> Settings:
    """The environment's, with these options in place of what they name. Ends the program when they are unsafe."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            sys.stderr.write(f"VERIDASK_{'_'.join(str(p) for p in problem['loc']).upper()}: {problem['msg']}\n")
        raise typer.Exit(2) from error


def _serve(given: dict[str, Any]) -> None:
    try:
        serve(_settings(given))
    except VeridaskError as error:
        sys.stderr.write(f"cannot serve: {error.detail}\n")
        raise typer.Exit(1) from error


@app.command()
def verify(
    front: Annotated[Path | None, typer.Option(help="Front of the document.", exists=True, dir_okay=False)] = None,
    back: Annotated[Path | None, typer.Option(help="Back of the document.", exists=True, dir_okay=False)] = None,
    face: Annotated[Path | None, typer.Option(help="Face scan.", exists=True, dir_okay=False)] = None,
    profile: Annotated[str, typer.Option(help="Profile; `recorded` asks for no movements of the head.")] = "recorded",
    url: Annotated[
        str | None, typer.Option(help="URL of a running service; without it, one is started for this case.")
    ] = None,
    api_key: Annotated[str, typer.Option(help="API key of that service.", envvar="VERIDASK_API_KEY")] = "",
    timeout: Annotated[float, typer.Option(help="How long to wait for the decision, in seconds.")] = 300.0,
) -> None:
    """Verify your own files and print the decision with its reasons."""
    given: dict[Step, Path | None] = {"front": front, "back": back, "face": face}
    media = {step: path for step, path in given.items() if path is not None}
    try:
        with _service(url, api_key) as (address, key), VeridaskClient(address, key) as client:
            case = client.create(profile)
            missing = [step.step for step in case.steps if step.step not in media]
            if missing:
                client.cancel(case.id)
                raise typer.BadParameter(f"profile {profile} also needs {', '.join('--' + name for name in missing)}")
            if case.challenge:
                console.print(f"The face scan must show, in this order: [bold]{', '.join(case.challenge)}[/bold]")
            for step in case.steps:
                client.upload(case.id, step.step, media[step.step])
            _show(client.wait(case.id, timeout))
    except (VeridaskError, TimeoutError, OSError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error


@contextlib.contextmanager
def _service(url: str | None, key: str) -> Iterator[tuple[str, str]]:
    if url is not None:
        yield url, key
        return
    with tempfile.TemporaryDirectory(prefix="veridask-") as folder, LocalServer(Path(folder)) as server:
        with console.status("Starting a service"):
            running = server.start()
        yield running.url, running.key


def _show(case: CaseView) -> None:
    table = Table("check", "result", "reasons", "ms", title=case.id)
    for check in case.checks:
        reasons = ", ".join(reason.code for reason in check.reasons)
        table.add_row(check.name, check.result, reasons, f"{check.duration_ms or 0:.0f}")
    console.print(table)
    decision = case.decision
    if decision is None:  # a retake was asked for from the quality of one upload
        for step in case.steps:
            for reason in step.reasons:
                console.print(f"{step.step}: {reason.message} ({reason.code})")
        console.print("[yellow]Film again what is listed above.[/yellow]")
        return
    waited = case.timings.decision_ms or 0.0
    console.print(f"[{_COLOURS[decision.outcome]}]{decision.outcome}[/] {waited:.0f} ms after the last upload")
    for reason in decision.reasons:
        console.print(f"  {reason.message} ({reason.code}, {reason.check})")


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed from which the synthetic documents and films are made.")] = 7100,
    keep: Annotated[bool, typer.Option(help="Copy the data folder of the run to out/demo.")] = False,
) -> None:
    """Run synthetic documents and attacks through the whole system. Exits with 0 if all decisions are as expected."""
    try:
        from service.cli.demo import demo as run_demo
    except ImportError as error:
        sys.stderr.write(f"The demo needs {error.name}: pip install 'veridask[api,worker,specimens]'\n")
        raise typer.Exit(1) from error

    raise typer.Exit(run_demo(seed, keep))


@app.command()
def evaluate(
    what: Annotated[str, typer.Argument(help="What to measure: mrz, barcode, page, face or presentation.")],
    data: Annotated[Path | None, typer.Option(help="Folder with labelled items.", exists=True, file_okay=False)] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV table of the items; by default the usual name in the folder.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Use synthetic specimens with these seeds, such as 100-109, instead of a folder.")
    ] = "",
    only: Annotated[
        list[str] | None, typer.Option(help="Only kinds whose name contains this; can be repeated.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Profile whose thresholds are used.")] = "standard",
    scheduler: Annotated[str, typer.Option(help="Run on this cluster instead of starting one.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the JSON file and the HTML page.")] = Path("out") / "evaluation",
) -> None:
    """Measure how often a check is right, on labelled items."""
    from graphs.evaluation.suite import Source
    from service.cli.evaluate import run, suite_named

    try:
        suite = suite_named(what)
        source = Source(data, table, _seeds(seeds), tuple(only or ()), profile)
        report, paths = run(suite, source, _settings({"scheduler": scheduler or None}), out, console)
    except VeridaskError as error:
        sys.stderr.write(f"cannot measure: {error.detail}\n")
        raise typer.Exit(1) from error
    for shown in report.tables:
        grid = Table(*shown.columns, title=shown.title)
        for row in shown.rows:
            grid.add_row(*row)
        console.print(grid)
    for note in (*report.notes, *map(str, paths)):
        console.print(note)


def _seeds(given: str) -> tuple[int, int] | None:
    if not given:
        return None
    first, _, last = given.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal()) or int(last or first) < int(first):
        raise typer.BadParameter("write seeds as FIRST-LAST, such as 100-109")
    return int(first), int(last or first)


@app.command()
def doctor() -> None:
    """Check this installation: what is missing, unsafe or slow. Exits with 1 if something is missing or unsafe."""
    from service.cli.doctor import doctor as run_doctor

    raise typer.Exit(run_doctor())


@app.command("reseal")
def reseal_command(
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the case store and the keys.")] = None,
) -> None:
    """Wrap all data keys with the first encryption key in the file. Run it after you put a new key there."""
    from service.cli.reseal import reseal

    try:
        done = asyncio.run(reseal(_settings({"data_dir": data_dir}), console))
    except VeridaskError as error:
        sys.stderr.write(f"cannot reseal: {error.detail}\n")
        raise typer.Exit(1) from error
    console.print(f"Wrapped {done} data keys with the first encryption key.")


@app.command("certs")
def certs_command(
    out: Annotated[Path, typer.Option(help="Folder for the CA, the certificates and their keys.", file_okay=False)],
    host: Annotated[
        list[str] | None,
        typer.Option(help="Host name or IP address for the certificates; can be repeated. Default: loopback."),
    ] = None,
    days: Annotated[int, typer.Option(help="Days until the certificates expire.", min=1, max=825)] = 365,
    renew: Annotated[bool, typer.Option(help="Make new certificates with the CA in the folder.")] = False,
) -> None:
    """Create a private CA and certificates for scheduler, workers and API, or renew the certificates."""
    from service.crypto import cluster_certificates as certs

    try:
        (certs.renew if renew else certs.make)(out, host or [], days)
    except (VeridaskError, OSError) as error:
        sys.stderr.write(f"no certificates made: {error}\n")
        raise typer.Exit(1) from error
    sys.stdout.write(certs.next_steps(out))


@app.command("autoscale")
def autoscale_command(
    scheduler: Annotated[str, typer.Option(help="Dask scheduler, such as tls://10.0.0.5:8786.")],
    kubernetes_namespace: Annotated[str, typer.Option(help="Scale the worker groups of this namespace.")] = "",
    cpu_group: Annotated[str, typer.Option(help="DaskWorkerGroup of the label CPU.")] = "veridask-default",
    gpu_group: Annotated[str, typer.Option(help="DaskWorkerGroup of the label GPU.")] = "veridask-gpu",
    min_cpu: Annotated[int, typer.Option(min=0, max=1000)] = 1,
    max_cpu: Annotated[int, typer.Option(min=1, max=1000)] = 4,
    min_gpu: Annotated[int, typer.Option(min=0, max=1000)] = 1,
    max_gpu: Annotated[int, typer.Option(min=1, max=1000)] = 2,
    wait: Annotated[
        float, typer.Option(help="Waiting time of tasks, in seconds, above which a worker is added.", min=0.1, max=600)
    ] = 2.0,
    quiet: Annotated[
        float, typer.Option(help="Seconds without load before a worker is removed.", min=1, max=86400)
    ] = 300.0,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port on which to publish the load as Prometheus metrics.", min=1, max=65535)
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address for the metrics; 0.0.0.0 in a pod.")] = "127.0.0.1",
    kubernetes_api: Annotated[
        str, typer.Option(help="URL of the Kubernetes API server; by default that of the pod's cluster.")
    ] = "",
    service_account: Annotated[Path, typer.Option(help="Folder with token and ca.crt.")] = SERVICE_ACCOUNT,
) -> None:
    """Scale Kubernetes worker groups by load, one group for each label; without a namespace, only publish the load."""
    from service.cluster.autoscale import autoscale

    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    api = kubernetes_api or (f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else "")
    settings = _settings({"scheduler": scheduler})
    configure(settings.log_level)
    try:
        bounds = {CPU: Bounds(min_cpu, max_cpu), GPU: Bounds(min_gpu, max_gpu)}
        names = {CPU: cpu_group, GPU: gpu_group}
        groups = KubernetesGroups(api, kubernetes_namespace, names, service_account) if kubernetes_namespace else None
        told = None if metrics_port is None else (metrics_host, metrics_port)
        rules = Rules(wait_s=wait, quiet_s=quiet)
        asyncio.run(autoscale(scheduler, groups, bounds, rules, told, settings.cluster_tls))
    except (VeridaskError, ValueError) as error:
        sys.stderr.write(f"cannot scale: {error}\n")
        raise typer.Exit(1) from error
