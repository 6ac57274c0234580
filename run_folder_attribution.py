"""Step 3, beside the pipeline: which photographs made a classifier of ImageNet's kind predict this? Folders of any size.

Reads <train>/<class>/ and <targets>/<class>/, whose photographs are decoded when they are needed, and the checkpoints.
Writes into results/<name>/
  trak/               projected gradients, 2 or 4 bytes x dimension for each photograph and checkpoint (docs/traker.md)
  top_photographs.csv each target's k most helpful and most harmful training photographs, with exact TRAK scores
A killed run is continued by the same command, which decodes nothing that is finished. With --shard and --num_shards machines
share the training photographs; the same command without --shard then merges the shards and scores.
Cost: about four forward passes of the network for each photograph and checkpoint; docs/scale.md has measured times.
"""

from tda.settings import FolderAttribution, run

SETTINGS = FolderAttribution(
    name="photographs",
    train="data/photographs/train",
    targets="data/photographs/targets",
    model="resnet18",
    checkpoints=("random",),
    image_size=224,
    dimension=2048,
    half_precision=True,
    k=10,
    shard=None,
    num_shards=1,
    batch_size=32,
    workers=0,
    memory_budget=4.0,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
