"""What a token costs a language model's passes and projected gradients, and what that makes of a larger model.

Llamas with random weights, which are no matter to time, at a few sizes, on texts of one length; float32, one process a size.
The gradients are those of the mean loss by every parameter, words and norms included, projected to 2,048 dimensions; or of
adapters of rank 8 on queries and values. A larger model is projected by its arithmetic: operations a token over the share of
the fastest matrix product that was reached here. Writes benchmarks/results/token_costs.json.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import common
import torch
from common import Outcome, contender, in_child, repeat, rounded
from torch import Tensor, nn

VOCABULARY = 8192
RANK = 8


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    sizes: tuple[str, ...] = ("4x256", "8x512", "12x768")
    """Layers by width of the models that run."""
    length: int = 128
    """Tokens of a text."""
    texts: int = 8
    """Texts of a run."""
    dimension: int = 2048
    """Of the projection."""
    repeats: int = 3
    """Runs, after one untimed run."""
    processor_time: bool = False
    """Count the processor's seconds with one thread, which other work on the machine hardly changes; for CPUs."""
    larger: str = "22x2048"
    """Layers by width of the model that is projected to; 22 x 2,048 with 32,000 words are 1.2 billion parameters."""
    larger_vocabulary: int = 32000
    """Its words."""
    gpu_flops: float = 67e12
    """Float32 operations a second that its GPU's data sheet promises; 67e12: an H100 without tensor cores."""


def llama(layers: int, width: int, vocabulary: int, length: int) -> nn.Module:
    """Heads of 64 numbers, as many for keys as for queries, and hidden layers 8 / 3 as wide, as Llama's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 64}
    hidden = 32 * round(width * 8 / 3 / 32)
    config = LlamaConfig(**sizes, intermediate_size=hidden, vocab_size=vocabulary, max_position_embeddings=length)
    return LlamaForCausalLM(config).eval()


def operations(layers: int, width: int, vocabulary: int, length: int) -> float:
    """Floating-point operations a token forward, and as many backward to what goes into the layers."""
    hidden = 32 * round(width * 8 / 3 / 32)
    matrices = layers * (4 * width**2 + 3 * width * hidden) + vocabulary * width
    attention = layers * 2 * width * length
    return 2.0 * (matrices + attention)


def parameters(layers: int, width: int, vocabulary: int) -> int:
    """Of a Llama whose words are not tied to its last layer."""
    hidden = 32 * round(width * 8 / 3 / 32)
    return layers * (4 * width**2 + 3 * width * hidden + 2 * width) + 2 * vocabulary * width + width


@contender
def costs(
    layers: int,
    width: int,
    length: int,
    texts: int,
    dimension: int,
    repeats: int,
    device: str,
    processor_time: bool,
    adapters: bool,
) -> Outcome:
    """Seconds of projected gradients, and of both passes alone, for all texts."""
    from tda.gradients.gradient_plan import plan_gradients
    from tda.gradients.objectives import NextToken
    from tda.gradients.projections import Projection
    from tda.models.language_tuning import adapted

    model = llama(layers, width, VOCABULARY, length)
    if adapters:
        model = adapted(model, RANK, RANK, "a Llama").network
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.02)
    model = model.to(device)
    tokens = torch.randint(VOCABULARY, (texts, length), generator=torch.Generator().manual_seed(0)).to(device)
    inputs, projection, loss = {"input_ids": tokens}, Projection(dimension), NextToken().loss
    plan = plan_gradients(model, inputs)

    def forward() -> Tensor:
        with torch.no_grad():
            return loss(model(**inputs).logits, tokens)

    def both() -> None:
        # To what goes into the layers, not to their weights: what gradients of single texts are made from.
        embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        torch.autograd.grad(loss(model(inputs_embeds=embedded).logits, tokens).sum(), embedded)

    flags = [parameter.requires_grad for parameter in model.parameters()]
    timed = partial(_timed, repeats=repeats, processor_time=processor_time)
    seconds = timed(lambda: projection.project(plan.block_rows(inputs, tokens, loss)))
    facts = {"forward": timed(forward), "both": timed(both)}
    for parameter, flag in zip(model.parameters(), flags, strict=True):
        parameter.requires_grad_(flag)
    return Outcome(seconds, facts={name: min(found) for name, found in facts.items()})


@contender
def fastest_product(device: str, processor_time: bool) -> Outcome:
    """Operations a second of the fastest of a few float32 matrix products."""
    best = 0.0
    for size in (1024, 2048, 8192) if device.startswith("cuda") else (1024, 2048):
        left, right = torch.randn(2, size, size, device=device)
        seconds = _timed(lambda left=left, right=right: float((left @ right)[0, 0]), 5, processor_time)
        best = max(best, 2 * size**3 / min(seconds))
    return Outcome([1.0], facts={"flops_per_second": best})


def _timed(work: Callable[[], object], repeats: int, processor_time: bool) -> list[float]:
    """Seconds of each run, after an untimed one."""
    if not processor_time:
        return repeat(work, repeats)[0]
    torch.set_num_threads(1)
    work()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return seconds


def measured(settings: Settings, size: str, peak: float) -> dict:
    """A row of one size: seconds a token of each part."""
    layers, width = map(int, size.split("x"))
    shared = {"layers": layers, "width": width, "device": settings.device, "repeats": settings.repeats}
    shared |= {"length": settings.length, "texts": settings.texts, "dimension": settings.dimension}
    shared |= {"processor_time": settings.processor_time}
    whole, adapted = (in_child("costs", adapters=adapters, **shared) for adapters in (False, True))
    tokens, flop = settings.texts * settings.length, 2 * operations(layers, width, VOCABULARY, settings.length)
    both = whole.facts["both"] / tokens
    return {
        "layers": layers,
        "width": width,
        "parameters": parameters(layers, width, VOCABULARY),
        "forward": rounded(whole.facts["forward"] / tokens),
        "forward_backward": rounded(both),
        "projected": rounded(min(whole.seconds) / tokens),
        "adapters": rounded(min(adapted.seconds) / tokens),
        "peak_mib": whole.peak_mib,
        "gflop_per_token": rounded(flop / 1e9),
        "share_of_peak": rounded(flop / both / peak, 3),
    }


def projected(settings: Settings, rows: list[dict]) -> list[dict]:
    """What the largest size's shares make of the larger model."""
    layers, width = map(int, settings.larger.split("x"))
    flop = 2 * operations(layers, width, settings.larger_vocabulary, settings.length)
    last, found = rows[-1], []
    count = parameters(layers, width, settings.larger_vocabulary)
    passes = flop / (settings.gpu_flops * last["share_of_peak"])
    for key, what in (("projected", "projected gradients of every parameter"), ("adapters", "of adapters of rank 8")):
        seconds = passes * last[key] / last["forward_backward"]
        found.append(
            {
                "what": f"{count / 1e9:.2f} billion parameters, {what}",
                "tokens_per_second": rounded(1 / seconds, 3),
                "hours_per_100_million_tokens": rounded(1e8 * seconds / 3600, 3),
            }
        )
    return found


def main(settings: Settings) -> str:
    """Measure and write the result, after each size, so that a run that is cut off leaves what it has."""
    timing = {"device": settings.device, "processor_time": settings.processor_time}
    peak = in_child("fastest_product", **timing).facts["flops_per_second"]
    rows, shared = [], {"length": settings.length, "texts": settings.texts, "gpu_flops": settings.gpu_flops}
    for size in settings.sizes:
        rows.append(measured(settings, size, peak))
        content = {"flops_per_second": rounded(peak), "sizes": rows, "projection": projected(settings, rows)} | shared
        common.write_result("token_costs", settings.device, content, ("transformers",))
    return f"wrote {common.write_result('token_costs', settings.device, content, ('transformers',))}"


if __name__ == "__main__":
    common.run(Settings, main)
