"""Every reader of files that come from outside: valid documents to begin with, and how one is read.

``open`` gets an empty folder and gives a function that takes the bytes of one input; what it returns does not count,
only that it returns or raises InputError. Imports are inside, so that the long run of one reader loads no other's.
"""

from __future__ import annotations

import gzip
import socket

import binary_mutations
import mutations
from data_targets import (
    VOC,
    cityscapes_panoptic_seeds,
    coco_seeds,
    lvis_seeds,
    open_cityscapes_panoptic,
    open_classes,
    open_coco,
    open_map_of_objects,
    open_other_annotations,
    open_panoptic,
    open_segment_map,
    open_stuff,
    open_voc,
    open_voc_list,
    panoptic_seeds,
    segment_map_seeds,
)
from document_targets import (
    open_architecture,
    open_recipe,
    open_run_recipe,
    open_top10,
    recipe_seeds,
    run_recipe_seeds,
    top10_seeds,
)
from hash_targets import (
    caches_seeds,
    file_hash_seeds,
    hashes_seeds,
    open_earlier_hashes,
    open_file_hashes,
    open_run_caches,
    open_whole,
    whole_seeds,
)
from image_targets import image_seeds, label_map_seeds, open_image, open_label_map
from prepared_targets import (
    CAMVID,
    LOSSES,
    decoder_seeds,
    finetuned_seeds,
    header_seeds,
    hurtful_pictures,
    journal_seeds,
    label_maps,
    open_camvid,
    open_decoder,
    open_finetuned,
    open_header,
    open_loss_log,
    open_marker,
    open_pareto,
    open_reported,
    open_video_results,
    open_warm_start,
    pareto_seeds,
    video_results_seeds,
)
from run_targets import open_journal, open_lock, open_results, open_snapshot, results_seeds, searched_file
from target import CSV, Target, dump, reference_architecture
from weight_targets import (
    cache_seeds,
    checkpoint_seeds,
    convert_mutation,
    convert_seeds,
    open_backbone,
    open_cache,
    open_checkpoint,
    open_convert,
    open_scores,
    open_training,
    training_seeds,
    weights_seeds,
)

TARGETS: dict[str, Target] = {
    "architecture.json": Target(
        lambda: [dump(reference_architecture())], open_architecture, mutations.json_text
    ),
    "recipe": Target(recipe_seeds, open_recipe, mutations.yaml_text),
    "recipe of a run": Target(run_recipe_seeds, open_run_recipe, mutations.yaml_text),
    "top10.json": Target(top10_seeds, open_top10, mutations.json_text),
    "journal": Target(lambda: [searched_file("journal.jsonl")], open_journal, mutations.journal_lines),
    "snapshot": Target(lambda: [searched_file("*.pt")], open_snapshot, binary_mutations.torch_content),
    "lock": Target(lambda: [dump({"pid": 1, "host": socket.gethostname()})], open_lock, mutations.json_text),
    "metrics.json": Target(results_seeds, open_results, mutations.json_text),
    "VOC annotation": Target(lambda: [VOC], open_voc, mutations.xml_text),
    "VOC split": Target(lambda: [b"a\nb\n"], open_voc_list, mutations.cells),
    "COCO": Target(coco_seeds, open_coco, mutations.json_text),
    "COCO in place of its own": Target(lvis_seeds, open_other_annotations, mutations.json_text),
    "COCO panoptic": Target(panoptic_seeds, open_panoptic, mutations.json_text),
    "COCO panoptic with stuff": Target(panoptic_seeds, open_stuff, mutations.json_text),
    "map of segments": Target(segment_map_seeds, open_segment_map, binary_mutations.metadata),
    "Cityscapes panoptic": Target(cityscapes_panoptic_seeds, open_cityscapes_panoptic, mutations.json_text),
    "VOC map of objects": Target(
        lambda: [*label_map_seeds(), *label_maps()], open_map_of_objects, binary_mutations.metadata
    ),
    "classes": Target(lambda: [b"cat\ndog\ntraffic light\n"], open_classes, mutations.cells),
    "image": Target(lambda: [*image_seeds(), *hurtful_pictures()], open_image, binary_mutations.metadata),
    "label map": Target(
        lambda: [*label_map_seeds(), *label_maps()], open_label_map, binary_mutations.metadata
    ),
    "checkpoint": Target(checkpoint_seeds, open_checkpoint, binary_mutations.torch_content),
    "checkpoint of a training": Target(training_seeds, open_training, binary_mutations.torch_content),
    "backbone weights": Target(weights_seeds, open_backbone, binary_mutations.torch_content),
    "weights to convert": Target(convert_seeds, open_convert, convert_mutation),
    "feature cache": Target(cache_seeds, open_cache, binary_mutations.metadata),
    "CamVid lists": Target(lambda: [CAMVID], open_camvid, mutations.cells),
    "marker of synthetic data": Target(
        lambda: [dump({"seed": 1, "images": {"train": 2}})], open_marker, mutations.json_text
    ),
    "decoder's architecture": Target(decoder_seeds, open_decoder, mutations.json_text),
    "fine-tuned weights": Target(finetuned_seeds, open_finetuned, binary_mutations.torch_content),
    "header beside a cache": Target(header_seeds, open_header, mutations.cells),
    "log.csv": Target(lambda: [LOSSES], open_loss_log, mutations.cells),
    "pareto.json": Target(pareto_seeds, open_pareto, mutations.json_text),
    "journal in a report": Target(journal_seeds, open_reported, mutations.journal_lines),
    "journal of another run": Target(journal_seeds, open_warm_start, mutations.journal_lines),
    "metrics.json of a video": Target(video_results_seeds, open_video_results, mutations.json_text),
    "list of hashes": Target(file_hash_seeds, open_file_hashes, mutations.cells),
    "hashes of before": Target(hashes_seeds, open_earlier_hashes, mutations.cells),
    "caches of a run": Target(caches_seeds, open_run_caches, mutations.json_text),
    "note of a whole cache": Target(whole_seeds, open_whole, mutations.json_text),
    "table of scores": Target(lambda: [CSV, gzip.compress(CSV, mtime=0)], open_scores, mutations.cells),
}
