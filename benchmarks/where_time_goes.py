"""Where the time of each step goes, against what the arithmetic and the memory of the machine allow; cnn_mnist3_10pc.

Counts the floating-point operations and the bytes that go in and out of every operator for one image of the two-layer CNN,
measures the machine's matrix product and copy rates, times each step for one checkpoint of one seed, and profiles the
operators. Writes benchmarks/results/where_time_goes.json.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import common
import torch
from common import Outcome, contender, in_child, load, repeat, rounded, spread
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

TASK, NUM_PER_CLASS = "mnist3", 10


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    repeats: int = 3
    """Runs of each step, after one untimed run."""


class TrafficCounter(TorchDispatchMode):
    """Bytes of all tensors that go in and out of operators which do not merely view: traffic if no cache kept anything."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return found


def counted(work: Callable[[], object]) -> tuple[int, int]:
    """Floating-point operations (convolutions and matrix products) and operator bytes of one run in this thread."""
    with FlopCounterMode(display=False) as flops:
        work()
    with TrafficCounter() as traffic:
        work()
    return flops.get_total_flops(), traffic.bytes


@contender
def machine(device: str) -> Outcome:
    """Best rates of a large float32 matrix product (FLOP/s) and of a large copy (bytes/s, read and written)."""
    size = 4096 if device.startswith("cuda") else 2048
    left, right = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    source = torch.rand(2**26, device=device)
    target = torch.empty_like(source)
    products, _ = repeat(lambda: left @ right, 8, warm_up=2)
    copies, _ = repeat(lambda: target.copy_(source), 8, warm_up=2)
    facts = {"flops_per_second": 2 * size**3 / min(products), "bytes_per_second": 2 * 4 * len(source) / min(copies)}
    return Outcome(products, facts=facts)


@contender
def steps(device: str, repeats: int) -> Outcome:
    """Every step for the five checkpoints of a seed, as the scripts do it: seconds, arithmetic, traffic, operators."""
    from tda.gradients.gradient_kernel import gradient_kernel
    from tda.methods.influence import dual_influence
    from tda.methods.registry import load_method
    from tda.models.model_state import write_state
    from tda.system.devices import on_device, prepare_process
    from tda.training.ensembles import seed_run
    from tda.training.evaluation import evaluate
    from tda.training.many_models import train_many
    from tda.training.training_step import make_optimizer, training_step

    prepare_process()
    members, train, test = load(TASK, NUM_PER_CLASS, device, fast_layout=True)
    member = members[-1]
    model, plan, objective = member.model, member.plan, member.objective
    fresh = on_device(member.study.new_model(member.seed), train.device)
    run = seed_run(member.study, member.seed)

    def forward() -> None:
        with torch.no_grad():
            model(test.inputs[:64])

    def forward_backward() -> None:
        functional.cross_entropy(model(train.inputs), train.labels).backward()

    def optimizer_step() -> None:
        training_step(fresh, optimizer, objective, train, torch.arange(len(train)), None)

    optimizer = make_optimizer(fresh, plan)
    forward_image = [count / 64 for count in counted(forward)]
    pass_image = [count / len(train) for count in counted(forward_backward)]
    step = counted(optimizer_step)
    kernel = counted(lambda: gradient_kernel(model, (train.inputs, train.labels), (test.inputs, test.labels)))
    dual = counted(lambda: dual_influence(model, objective, train, test, 5e-3))
    write_state(member.state, model)
    num_steps, epochs = len(run.batches), len(plan.kept_epochs)

    evaluations = [len(test) * count for count in forward_image]
    retraining = [num_steps * one + epochs * other for one, other in zip(step, evaluations, strict=True)]
    # Operations and bytes of a whole step; if_lissa's are not counted.
    scored = {
        "training, one seed": [num_steps * count for count in step],
        "grad_dot + grad_cos": [epochs * count for count in kernel],
        "if": [epochs * count for count in dual],
        "loo": [(len(train) + 1) * count for count in retraining],
        "ats": [epochs * (len(train) * one + other) for one, other in zip(evaluations, step, strict=True)],
    }

    def score(names: list[str]) -> Callable[[], object]:
        def work() -> None:
            for each in members:
                each.cache.clear()
            for name in names:
                list(load_method(name).score(members, train, test, load_method(name).settings))

        return work

    works = {
        "training, one seed": lambda: list(train_many(fresh, plan, objective, [run], train, keep_states=True)),
        "grad_dot + grad_cos": score(["grad_dot", "grad_cos"]),
        **{name: score([name]) for name in ("if", "if_lissa", "loo", "ats")},
    }
    rows = []
    for name, work in works.items():
        seconds, _ = repeat(work, repeats)
        row = {"step": name, **spread(seconds)}
        if name in scored:
            row |= {"gflop": rounded(scored[name][0] / 1e9), "gigabytes": rounded(scored[name][1] / 1e9)}
        rows.append(row)
    # The profiler sees the thread that it is in, so that it is given what the worker threads do.
    blocks = {
        "training steps": lambda: [training_step(fresh, optimizer, objective, train, batch, None) for batch in run.batches],
        "evaluation": lambda: evaluate(model, objective, test),
        "gradient kernel": lambda: gradient_kernel(model, (train.inputs, train.labels), (test.inputs, test.labels)),
        "if": works["if"],
        "if_lissa": works["if_lissa"],
    }
    profiled = [{"work": name, "shares": operators(work, device)} for name, work in blocks.items()]
    evaluation, _ = repeat(blocks["evaluation"], repeats)
    image = {
        "forward_mflop": rounded(forward_image[0] / 1e6),
        "forward_backward_mflop": rounded(pass_image[0] / 1e6),
        "forward_megabytes": rounded(forward_image[1] / 1e6),
        "forward_backward_megabytes": rounded(pass_image[1] / 1e6),
    }
    return Outcome(evaluation, facts={"rows": rows, "image": image, "operators": profiled})


def operators(work: Callable[[], object], device: str) -> dict[str, float]:
    """Shares of operators' own time in one run, the six largest."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    on_gpu = device.startswith("cuda")
    if on_gpu:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        work()
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    times = {event.key: getattr(event, key) for event in profile.key_averages()}
    total = sum(times.values()) or 1
    return {name: rounded(spent / total, 2) for name, spent in sorted(times.items(), key=lambda item: -item[1])[:6]}


def main(settings: Settings) -> str:
    """Measure and write the result."""
    start = time.perf_counter()
    rates = in_child("machine", device=settings.device).facts
    with common.temporary_root():
        in_child("trained_members", task=TASK, num_per_class=NUM_PER_CLASS, device=settings.device)
        measured = in_child("steps", device=settings.device, repeats=settings.repeats).facts
    for row in measured["rows"]:
        if "gflop" in row:
            row["arithmetic_seconds"] = rounded(row["gflop"] * 1e9 / rates["flops_per_second"], 3)
            row["memory_seconds"] = rounded(row["gigabytes"] * 1e9 / rates["bytes_per_second"], 3)
    content = {"machine": {key: rounded(value) for key, value in rates.items()}, **measured}
    path = common.write_result("where_time_goes", settings.device, content)
    return f"wrote {path} in {time.perf_counter() - start:.0f} s"


if __name__ == "__main__":
    common.run(Settings, main)
