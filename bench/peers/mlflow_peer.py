"""MLflow: its tracking server over SQLite; what a metric costs through it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib import import_module
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))
desk = import_module("desk")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_up(url: str) -> None:
    for _ in range(1200):
        try:
            with urllib.request.urlopen(url + "/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the server did not answer within two minutes")


def measure(url: str, calls: int) -> dict[str, float]:
    mlflow = import_module("mlflow")
    entities = import_module("mlflow.entities")
    mlflow.set_tracking_uri(url)
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("bench")).info.run_id
    singles: list[float] = []
    for step in range(calls):
        began = time.perf_counter()
        client.log_metric(run, "loss", 1 / (step + 1), step=step)
        singles.append(time.perf_counter() - began)
    began, batches = time.perf_counter(), 8
    for batch in range(batches):
        metrics = [entities.Metric("batch", 0.5, int(time.time() * 1000), batch * 1000 + n) for n in range(1000)]
        client.log_batch(run, metrics=metrics)
    return {"metrics": batches * 1000 / (time.perf_counter() - began), "log_call": median(singles) * 1e6}


def main() -> None:
    folder, port = tempfile.mkdtemp(prefix="runyard-peer-"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    began = time.perf_counter()
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_up(url)
        found = {"up_s": time.perf_counter() - began, "memory": desk.memory(os.getpid())}
        found |= measure(url, 100)
    finally:
        server.terminate()
        server.wait(60)
    print(json.dumps(found))


main()
