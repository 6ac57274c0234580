"""TracInCP: inner products of loss gradients, summed over a run's checkpoints with their learning rates (Pruthi et al. 2020).

TracInCP(z, z') = sum over kept checkpoints of eta g(z) . g(z'), eta the mean learning rate of the epoch that ends in the
checkpoint. A score file holds its own checkpoint's term times the number of kept checkpoints: the mean over all kept ones,
which analysis takes for a seed's score, then is TracInCP itself, and the mean over the last k estimates the same sum from these
alone. With a constant learning rate a file is Grad-Dot times a constant: what sets TracInCP apart is then the sum over
checkpoints, which analysis takes of every method.
"""

from statistics import fmean

from tda.data.splits import Split
from tda.methods.gradient_similarity import scored_kernel
from tda.methods.registry import Attribution, per_member, register
from tda.training.members import Member


def checkpoint_weight(member: Member, num_train: int) -> float:
    """A term's factor, with which the mean over all kept checkpoints is their sum weighted by learning rate."""
    plan = member.plan
    steps = plan.steps_per_epoch(num_train)
    last = member.epoch * steps
    rate = fmean(plan.rate(step, plan.epochs * steps) for step in range(last - steps + 1, last + 1))
    return len(plan.kept_epochs) * rate


@register("tracin", "TracInCP", "Pruthi et al. 2020")
@per_member
def tracin(member: Member, train: Split, test: Split) -> Attribution:
    """Kept checkpoints * learning rate * g_train . g_test, the loss change by steps on the example (first order)."""
    products = scored_kernel(member, train, test).cross
    return Attribution(checkpoint_weight(member, len(train)) * products, positions=member.study.scored)
