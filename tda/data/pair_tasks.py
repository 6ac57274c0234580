"""The tasks of images with texts, and how an entry of one's own is made."""

from tda.data.kinds import ImageKind, ImageTextKind
from tda.data.packaged_encoder import PACKAGED
from tda.data.pair_tables import PairSource
from tda.data.task_entry import Task
from tda.data.text_tasks import text_kind, tokens_of
from tda.gradients.objectives import Pairing


def pairs_from_library(
    path: str,
    image: ImageKind,
    image_column: str = "image",
    caption_column: str = "captions",
    caption: int = 0,
    hub: str | None = None,
    tokenizer: str | int = PACKAGED,
    length: int = 32,
    **entry,
) -> Task:
    """A task of pictures with texts that describe them, from files below data/ or from the hub (see PairSource).

    tokenizer, length: as for texts alone (text_tasks.texts_from_library); a CLIP model reads its own tokens. entry: the other
    fields of Task but classes and class_names, of which there is one.
    """
    source = PairSource(path, image_column, caption_column, caption, image.channels, image.size, hub)
    tokens = tokens_of(entry["name"], tokenizer, source.pool, length)
    kind = ImageTextKind(image, text_kind(tokens))
    return Task(classes=(0,), class_names=("pair",), load=source.pool, kind=kind, objective=Pairing(), **entry)


_HALVES = (0.5, 0.5, 0.5)

PAIR_TASKS = (
    pairs_from_library(
        path="flickr8k",
        image=ImageKind(channels=3, size=112, mean=_HALVES, std=_HALVES),
        hub="intro/flickr8k",
        name="flickr8k",
        title="Flickr8k: photographs with a caption",
        epochs=10,
        test_per_class=200,
    ),
    pairs_from_library(
        path="own_pairs",
        image=ImageKind(channels=3, size=112, mean=_HALVES, std=_HALVES),
        name="own_pairs",
        title="pictures with texts of one's own, in data/own_pairs/<train or test>.csv: image, captions",
        epochs=10,
        test_per_class=50,
    ),
)
