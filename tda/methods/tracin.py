"""TracInCP: inner products of loss gradients, summed over a run's checkpoints with their learning rates (Pruthi et al. 2020).

TracInCP(z, z') = sum over kept checkpoints of eta g(z) . g(z'). A score file holds its own checkpoint's term times the number
of kept checkpoints: the mean over all kept ones, which analysis takes for a seed's score, then is TracInCP itself, and the mean
over the last k estimates the same sum from these alone. With a constant learning rate a file is Grad-Dot times a constant: what
sets TracInCP apart is then the sum over checkpoints, which analysis takes of every method.
"""

from tda.members import Member
from tda.methods.gradient_similarity import loss_kernel
from tda.methods.registry import Attribution, per_member, register
from tda.subsets import Split


def checkpoint_weight(member: Member) -> float:
    """A term's factor, with which the mean over all kept checkpoints is their sum weighted by learning rate."""
    return len(member.plan.kept_epochs) * member.plan.learning_rate


@register("tracin", "TracInCP", "Pruthi et al. 2020")
@per_member
def tracin(member: Member, train: Split, test: Split) -> Attribution:
    """Kept checkpoints * learning rate * g_train . g_test, the loss change by steps on the example (first order)."""
    return Attribution(checkpoint_weight(member) * loss_kernel(member, train, test).cross)
