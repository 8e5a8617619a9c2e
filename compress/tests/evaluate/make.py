"""Writes the fixtures beside it: COCO annotations, detections and what pycocotools makes of them.

    pip install pycocotools && python make.py
"""

import contextlib
import io
import json
import pathlib
import random

import pycocotools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HERE = pathlib.Path(__file__).parent
NAMES = ["person", "cat", "dog", "train"]


class IgnoreHonoured(COCOeval):
    """COCOeval that keeps the field `ignore` instead of overwriting it with `iscrowd`."""

    def _prepare(self):
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["iscrowd"] or truth.get("difficult", 0)


def box(rng, side_min=8, side_max=260):
    width, height = rng.uniform(side_min, side_max), rng.uniform(side_min, side_max)
    return [rng.uniform(0, 400), rng.uniform(0, 300), width, height]


def jitter(rng, bbox, amount):
    x, y, w, h = bbox
    shift = lambda side: rng.gauss(0, amount) * side
    return [x + shift(w), y + shift(h), max(1.0, w + shift(w)), max(1.0, h + shift(h))]


def case(seed, images=6, objects=5, crowd=0.0, difficult=0.0, ties=False, noise=6, flood=0, empty=()):
    """One data set: objects, most of them found with some error, and detections of nothing."""
    rng = random.Random(seed)
    rounded = lambda bbox: [round(v, 1) for v in bbox]
    truths, found = [], []
    # Ids neither dense nor in file order: the protocol goes by rising id.
    ids = rng.sample(range(1, 1000), images)
    for image in ids:
        for _ in range(rng.randint(0, 2 * objects)):
            category = rng.choice([c for c in range(len(NAMES)) if c not in empty])
            bbox = rounded(box(rng))
            truth = {
                "id": len(truths) + 1, "image_id": image, "category_id": 10 * (category + 1), "bbox": bbox,
                # An outline covers less than its box.
                "area": round(bbox[2] * bbox[3] * rng.uniform(0.5, 1.0), 1),
                "iscrowd": int(rng.random() < crowd),
            }
            if rng.random() < difficult:
                truth |= {"ignore": 1, "difficult": 1}
            truths.append(truth)
            for _ in range(rng.choice([0, 1, 1, 2]) * (3 if truth["iscrowd"] else 1)):
                found.append((image, truth["category_id"], jitter(rng, bbox, rng.choice([0.02, 0.08, 0.2]))))
        for _ in range(rng.randint(0, noise)):
            found.append((image, 10 * rng.randint(1, len(NAMES)), box(rng)))
    for _ in range(flood):
        truth = rng.choice([t for t in truths if t["image_id"] == truths[0]["image_id"]])
        found.append((truth["image_id"], truth["category_id"], jitter(rng, truth["bbox"], 0.15)))
    rng.shuffle(found)
    score = (lambda: round(rng.uniform(0, 1), 1)) if ties else (lambda: round(rng.uniform(0.001, 1), 4))
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 660, "height": 560} for i in ids],
        "categories": [{"id": 10 * (c + 1), "name": name} for c, name in enumerate(NAMES)],
        "annotations": truths,
        "detections": [
            {"image_id": i, "category_id": c, "bbox": rounded(b), "score": score()} for i, c, b in found
        ],
    }


def at_thresholds(seed, images=30):
    """Overlaps that are a threshold, but for the rounding of 64 bits, and areas at the border of two ranges: what is
    read in 32 bits falls on the other side. Some boxes stick out of the photograph."""
    rng = random.Random(seed)
    truths, found = [], []
    for image in range(1, images + 1):
        for row in range(4):
            # Twentieths of such a width have one decimal.
            width, height = 2 * rng.randint(5, 60), rng.randint(50, 1200) / 10
            x, y = rng.randint(1, 4000) / 10, row * 140 + rng.randint(1, 190) / 10
            if rng.random() < 0.3:
                x = round(660.3 - width, 1)
            category = 10 * rng.randint(1, len(NAMES))
            area = rng.choice([1024, 1024.00001, 1023.99999, 9216, 9216.0003, 9215.9998, round(width * height, 2)])
            truths.append({
                "id": len(truths) + 1, "image_id": image, "category_id": category, "bbox": [x, y, width, height],
                "area": area, "iscrowd": 0,
            })
            overlap = rng.randint(10, 19) / 20
            # A part of the box, as wide or as high.
            part = [x, y, width, round(height * overlap, 3)]
            if rng.random() < 0.5:
                part = [x, y, round(width * overlap, 1), height]
            found.append({"image_id": image, "category_id": category, "bbox": part, "score": round(rng.random(), 4)})
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 660, "height": 560} for i in range(1, images + 1)],
        "categories": [{"id": 10 * (c + 1), "name": name} for c, name in enumerate(NAMES)],
        "annotations": truths,
        "detections": found,
    }


CASES = {
    "plain": case(1),
    "crowds": case(2, crowd=0.3),
    "difficult-objects": case(3, difficult=0.3),
    "crowds-and-difficult-objects": case(4, crowd=0.25, difficult=0.25, images=10),
    "tied-scores": case(5, ties=True, images=10),
    "more-than-100-detections": case(6, images=3, objects=2, flood=260, noise=2),
    "a-category-without-objects": case(7, empty=(1, 3)),
    "nothing-found": case(8, images=3) | {"detections": []},
    "overlaps-at-a-threshold": at_thresholds(9),
}


def main():
    for name, data in CASES.items():
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = json.loads(json.dumps({k: v for k, v in data.items() if k != "detections"}))
            truth.createIndex()
            if data["detections"]:
                found = truth.loadRes(json.loads(json.dumps(data["detections"])))
            else:
                found = COCO()
                found.dataset = {k: truth.dataset[k] for k in ("images", "categories")} | {"annotations": []}
                found.createIndex()
            evaluation = IgnoreHonoured(truth, found, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        keys = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
        data["expected"] = dict(zip(keys, evaluation.stats)) | {"ar100": evaluation.stats[8]}
        data["made_with"] = f"pycocotools {getattr(pycocotools, '__version__', '2.0')}"
        (HERE / f"{name}.json").write_text(json.dumps(data) + "\n")
        print(name, {k: round(v, 4) for k, v in data["expected"].items()})


if __name__ == "__main__":
    main()
