"""Step 7, images with texts: leave out the training pairs most helpful to a target pair, train again, see how far it falls.

Reads results/<experiment>/tda_scores/ (methods that are named and lack scores are scored first), each seed's last checkpoint
and the data: a task of images with texts, such as flickr8k.
Writes into results/<experiment>/
  retrieval.csv            recall@1, @5 and @10 of each member: of the own text by an image, and of the own image by a text
  pair_removal.csv         fall of the target's cosine similarity and rank where each method's most helpful pairs are left out,
                           with intervals over targets and seeds, and how much further than by random and similar pairs
  pair_removal.png, .pdf   the same as a figure
  helpful_pairs.csv        each method's first training pairs for each target, with mean, deviation over seeds, q, and captions
  helpful_pairs.png, .pdf  a gallery: target pairs, and the pairs most helpful to them
  retrainings/             one small file a training; a killed run continues with what is missing
Cost: ((methods + 1) x targets + 1) x seeds trainings, each half a second of one CPU core for 1,500 pairs and frozen towers.
"""

from tda.settings import PairRemoval, run

SETTINGS = PairRemoval(
    experiment=None,
    model="clip",
    task="flickr8k",
    num_per_class=1500,
    variant="",
    num_seeds=None,
    methods=("trak", "grad_cos", "repsim", "image_similarity", "caption_similarity"),
    num_checkpoints=2,
    num_targets=24,
    rank=20,
    removed=50,
    removed_by=("trak", "grad_cos", "repsim", "image_similarity", "caption_similarity"),
    num_retrainings=5,
    listed=10,
    shown=6,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
