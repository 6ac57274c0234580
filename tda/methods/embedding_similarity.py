"""Embedding similarity: how alike a training and a test text are to a sentence encoder that was trained on other texts.

It knows nothing of the models that are explained: every seed and checkpoint has the same scores.
"""

from torch.nn import functional

from tda.data.splits import Split
from tda.methods.registry import Attribution, one_after_another, register
from tda.models.sentence_encoder import sentence_embeddings
from tda.training.example_texts import check_texts, texts_of_test, texts_of_training
from tda.training.members import Member

_SIGN = "positive = alike; neither labels nor the model are seen"


@register(
    "embedding_similarity",
    "Embedding similarity",
    "Reimers and Gurevych 2019; Wang et al. 2020",
    check=check_texts,
    sign=_SIGN,
    needs="texts",
    in_all=False,
    encoder="packaged",
)
@one_after_another
def embedding_similarity(member: Member, train: Split, test: Split, encoder: str) -> Attribution:
    """Cosine of the texts' embeddings, the mean of the encoder's vectors of their tokens.

    encoder: packaged, a folder that save_pretrained wrote beside tokenizer.json, or a hub name.
    """
    texts = (tuple(texts_of_training(member, train)), tuple(texts_of_test(member, test)))
    left, right = (functional.normalize(sentence_embeddings(encoder, part)) for part in texts)
    return Attribution((left @ right.T).clamp(-1, 1))
