"""One measurement of a peer, as `cpu_peers.py` starts it: in a process of its own, in the environment that has the peer.

usage: python peer_process.py --measure JSON    prints the times of the calls as JSON
       python peer_process.py --write JSON      writes input files for Apus
"""
from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tools"))

LEAST_CALLS = 30


@dataclasses.dataclass(frozen=True)
class Input:
    """What a model is fed: a shape, and values drawn from `range(high)` (integers) or around zero (floats), or all `value`."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    high: int = 0
    value: int | None = None

    def label(self) -> str:
        return "x".join(map(str, self.shape))


def decoded(specs: dict) -> dict[str, Input]:
    return {name: Input(tuple(v["shape"]), v["dtype"], v["high"], v["value"]) for name, v in specs.items()}


def arrays(inputs: dict[str, Input]) -> dict:
    """The same values in every process."""
    import numpy as np
    random, made = np.random.default_rng(1234), {}
    for name, spec in inputs.items():
        if spec.value is not None:
            made[name] = np.full(spec.shape, spec.value, spec.dtype)
        elif spec.high:
            made[name] = random.integers(0, spec.high, spec.shape).astype(spec.dtype)
        else:
            made[name] = (0.5 * random.standard_normal(spec.shape)).astype(spec.dtype)
    return made


def open_ort(model: Path, feeds: dict, threads: int, static: bool) -> Callable[[], object]:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if static:
        for name, size in named_dimensions(model, feeds).items():
            options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()  # spares a copy of every input per call
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def named_dimensions(model: Path, feeds: dict) -> dict[str, int]:
    """The sizes that the feeds give to the model's named dimensions."""
    import onnx_scan
    sizes = {}
    for value in onnx_scan.inputs(model.read_bytes()):
        for name, size in zip(value.dimension_names, feeds[value.name].shape):
            if name:
                sizes[name] = size
    return sizes


def open_openvino(model: Path, feeds: dict, threads: int, static: bool) -> Callable[[], object]:
    import openvino
    core = openvino.Core()
    network = core.read_model(model)
    if static:
        network.reshape({port.any_name: list(feeds[port.any_name].shape) for port in network.inputs})
    compiled = core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    for port in compiled.inputs:
        request.set_tensor(port, openvino.Tensor(feeds[port.any_name], shared_memory=True))
    return request.infer


def open_torch(model: Path, feeds: dict, threads: int) -> Callable[[], object]:
    """The module that the model was exported from, without a compiler."""
    import torch
    import export_models
    torch.set_num_threads(threads)
    module = export_models.load(model.parent, model.stem)
    values = [torch.from_numpy(value) for value in feeds.values()]

    def run() -> object:
        with torch.inference_mode():
            return module(*values)

    return run


def opened(runner: str, model: Path, feeds: dict, threads: int) -> Callable[[], object]:
    if runner == "torch":
        return open_torch(model, feeds, threads)
    return (open_ort if runner.startswith("ort") else open_openvino)(model, feeds, threads, runner.endswith("-static"))


def measure(request: str) -> None:
    r = json.loads(request)
    feeds = arrays(decoded(r["inputs"]))
    started = time.perf_counter()
    run = opened(r["runner"], Path(r["file"]), feeds, r["threads"])
    load = time.perf_counter() - started
    until, calls = time.perf_counter() + r["warmup"], 0
    while calls < 5 or time.perf_counter() < until:
        run()
        calls += 1
    times: list[float] = []
    until = time.perf_counter() + r["duration"]
    while len(times) < LEAST_CALLS or time.perf_counter() < until:
        before = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - before))
    print(json.dumps({"median_ms": statistics.median(times), "min_ms": min(times), "calls": len(times), "load_ms": 1e3 * load}))


def write_inputs(request: str) -> None:
    import numpy as np
    specs = decoded(json.loads(request))
    for path, value in arrays(specs).items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        np.save(path, value)


if __name__ == "__main__":
    {"--measure": measure, "--write": write_inputs}[sys.argv[1]](sys.argv[2])
