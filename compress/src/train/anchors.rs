//! YOLOv3's head: the assignment of objects to cells, and the loss (Redmon & Farhadi 2018, section 2).
//!
//! An object is assigned to the cell that contains its centre, in the map and with the anchor that fit its shape best.
//! That cell learns objectness 1, the class and the box. Everywhere else the target of objectness is 0, except where
//! the predicted box overlaps an object well, or an object that is marked to be ignored. The loss of objectness and
//! classes is binary cross-entropy, as in the paper. That of boxes is CIoU, as for the anchor-free head, so that the
//! two can be compared. YOLOv4's scale of x and y changes the boxes alone: an object stays with the cell of its centre.

use tch::{Kind, Tensor};

use super::loss::{LABEL_BOX_GAIN, Loss, ciou};
use super::tensor::to_vec;
use crate::data::augment::Target;
use crate::error::Result;
use crate::export::SIDE_MAX;
use crate::network::Head;

/// A prediction that overlaps an object by more than this does not count as a false positive: `ignore_thresh` of
/// Darknet's `yolov3-tiny.cfg` (the paper says 0.5, for the large network).
const IGNORE_IOU: f32 = 0.7;

/// An anchor in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// The left and upper edge of the cell in pixels.
    pub corner: [f32; 2],
    /// The side of the cell in pixels.
    pub stride: f32,
    /// Width and height of the anchor in pixels.
    pub anchor: [f32; 2],
    /// The size of the range in which a predicted centre can lie, around the middle of the cell, in strides.
    pub xy_scale: f32,
}

/// All anchors in all cells of `head` for a square input of `size` pixels, in the order of
/// [`super::Predictions::Anchors`] and of the exported network. Empty if the head has no anchors.
pub fn places(size: usize, strides: &[usize], head: &Head) -> Vec<Place> {
    let Head::Anchors { anchors, .. } = head else { return Vec::new() };
    let mut places = Vec::new();
    for (map, (&stride, anchors)) in strides.iter().zip(anchors).enumerate() {
        let side = size.div_ceil(stride);
        for &anchor in anchors {
            for cell in 0..side * side {
                let corner = [cell % side, cell / side].map(|at| (at * stride) as f32);
                let xy_scale = head.xy_scale(map);
                places.push(Place { corner, stride: stride as f32, anchor, xy_scale });
            }
        }
    }
    places
}

/// The assignments of one image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageAssignment {
    /// Index of the place and of the target that it learns, by ascending place.
    pub positives: Vec<(usize, usize)>,
    /// Places whose objectness is ignored in the loss, ascending.
    pub ignored: Vec<usize>,
}

/// Assigns the targets of one image. `boxes` are the predictions, left, top, right, bottom in pixels, one per place.
///
/// A target of weight 0 is not learned: its place and the predictions that overlap it are ignored.
pub fn assign(places: &[Place], boxes: &[[f32; 4]], targets: &[Target]) -> ImageAssignment {
    // For each place, the fit of the anchor, and the target that it learns or for which it is ignored. Learning has
    // priority.
    let mut claims: Vec<Option<(f32, usize)>> = vec![None; places.len()];
    let learns = |target: usize| targets[target].weight > 0.0;
    for (index, target) in targets.iter().enumerate() {
        let Some((place, fit)) = best_place(places, target.ltrb) else { continue };
        let rank = |fit: f32, target: usize| (learns(target), fit);
        if claims[place].is_none_or(|(other_fit, other)| rank(fit, index) > rank(other_fit, other)) {
            claims[place] = Some((fit, index));
        }
    }
    let mut assignment = ImageAssignment::default();
    for (place, claim) in claims.into_iter().enumerate() {
        match claim {
            Some((_, target)) if learns(target) => assignment.positives.push((place, target)),
            Some(_) => assignment.ignored.push(place),
            None => {
                if targets.iter().any(|target| iou(boxes[place], target.ltrb) > IGNORE_IOU) {
                    assignment.ignored.push(place);
                }
            }
        }
    }
    assignment
}

/// Returns the place in the cell of the box's centre whose anchor fits its shape best, and the IoU of the shapes.
pub(super) fn best_place(places: &[Place], [l, t, r, b]: [f32; 4]) -> Option<(usize, f32)> {
    let has_centre = |place: &Place| {
        let [x, y] = [(l + r) / 2.0 - place.corner[0], (t + b) / 2.0 - place.corner[1]];
        (0.0..place.stride).contains(&x) && (0.0..place.stride).contains(&y)
    };
    let fits = places.iter().enumerate().filter(|(_, place)| has_centre(place)).map(|(at, place)| {
        let [width, height] = place.anchor;
        (at, iou([0.0, 0.0, width, height], [0.0, 0.0, r - l, b - t]))
    });
    fits.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// [`assign`] for every image of a batch, on all cores, because a GPU would wait for a single one.
fn assign_all(places: &[Place], boxes: &[[f32; 4]], targets: &[Vec<Target>]) -> Vec<ImageAssignment> {
    let images: Vec<_> = boxes.chunks(places.len()).zip(targets).collect();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        let parts = images.chunks(images.len().div_ceil(cores).max(1)).map(|images| {
            let part = || images.iter().map(|(boxes, targets)| assign(places, boxes, targets)).collect::<Vec<_>>();
            scope.spawn(part)
        });
        let parts: Vec<_> = parts.collect();
        let done =
            parts.into_iter().map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done.flatten().collect()
    })
}

/// Intersection over union of two boxes (left, top, right, bottom).
pub(super) fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let overlap = width * height;
    let area = |v: [f32; 4]| (v[2] - v[0]) * (v[3] - v[1]);
    overlap / (area(a) + area(b) - overlap).max(1e-9)
}

/// Converts the network's `values` (see [`super::Predictions::Anchors`]) to boxes: left, top, right, bottom in pixels,
/// `[batch, places, 4]`.
pub(super) fn boxes(values: &Tensor, places: &[Place]) -> Result<Tensor> {
    let device = values.device();
    let column = |of: &dyn Fn(&Place) -> f32| {
        let column: Vec<f32> = places.iter().map(of).collect();
        Tensor::from_slice(&column).to_device(device)
    };
    let range = column(&|place| place.xy_scale * place.stride);
    let start = |place: &Place, axis: usize| place.corner[axis] - (place.xy_scale - 1.0) / 2.0 * place.stride;
    let x = values.select(2, 0).sigmoid() * &range + column(&|place| start(place, 0));
    let y = values.select(2, 1).sigmoid() * &range + column(&|place| start(place, 1));
    let limit = f64::from(SIDE_MAX);
    let half_width = values.select(2, 2).clamp_max(limit).exp() * column(&|place| place.anchor[0]) * 0.5;
    let half_height = values.select(2, 3).clamp_max(limit).exp() * column(&|place| place.anchor[1]) * 0.5;
    Ok(Tensor::f_stack(&[&x - &half_width, &y - &half_height, x + half_width, y + half_height], 2)?)
}

/// The loss of a batch; `values` as in [`super::Predictions::Anchors`].
///
/// A teacher's box counts with its weight in all three parts.
///
/// # Errors
///
/// libtorch's.
pub fn loss(values: &Tensor, places: &[Place], targets: &[Vec<Target>]) -> Result<Loss> {
    let device = values.device();
    let classes = values.size()[2] - 5;
    let count = places.len();
    let boxes = boxes(values, places)?;
    let known_boxes = to_vec(&boxes.detach())?;

    // For the places of all images.
    let mut object: Vec<f32> = vec![0.0; targets.len() * count];
    let mut object_weight: Vec<f32> = vec![1.0; targets.len() * count];
    // For each place that learns an object.
    let (mut index, mut class, mut weight) = (Vec::<i64>::new(), Vec::<i64>::new(), Vec::<f32>::new());
    let mut truth: Vec<f32> = Vec::new();
    let assignments = assign_all(places, known_boxes.as_chunks().0, targets);
    for (image, (targets, assignment)) in targets.iter().zip(assignments).enumerate() {
        for place in assignment.ignored {
            object_weight[image * count + place] = 0.0;
        }
        for (place, target) in assignment.positives {
            let (at, target) = (image * count + place, &targets[target]);
            (object[at], object_weight[at]) = (1.0, target.weight);
            index.push(at as i64);
            class.push(target.class as i64);
            weight.push(target.weight);
            truth.extend(target.ltrb);
        }
    }
    let norm = f64::from(weight.iter().sum::<f32>().max(1.0));
    let tensor = |values: &[f32]| Tensor::from_slice(values).to_device(device);

    // The cross-entropy of a logit x with target y is softplus(x) - y·x.
    let logits = values.select(2, 4).flatten(0, 1);
    let object = tensor(&object_weight) * (logits.softplus() - tensor(&object) * &logits);
    let object = object.sum(Kind::Float) / norm;

    let (class, bbox) = if index.is_empty() {
        let none = Tensor::f_zeros([1], (Kind::Float, device))?.sum(Kind::Float);
        (none.shallow_clone(), none)
    } else {
        let index = Tensor::from_slice(&index).to_device(device);
        let weight = tensor(&weight);
        let logits = values.flatten(0, 1).index_select(0, &index).narrow(1, 5, classes);
        let class = Tensor::from_slice(&class).to_device(device).unsqueeze(1);
        let right = logits.gather(1, &class, false).squeeze_dim(1);
        let class = logits.softplus().sum_dim_intlist(1, false, Kind::Float) - right;
        let miss: Tensor = 1.0 - ciou(&boxes.flatten(0, 1).index_select(0, &index), &tensor(&truth).view([-1, 4]));
        ((class * &weight).sum(Kind::Float) / norm, (miss * weight).sum(Kind::Float) / norm)
    };
    let total = &object + &class + &bbox * LABEL_BOX_GAIN;
    Ok(Loss::new(total, [class, bbox, object]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{LayerKind, Network};
    use crate::train::{Layout, Predictions, Replica};
    use crate::zoo;

    fn target(class: usize, ltrb: [f32; 4], weight: f32) -> Target {
        Target { class, ltrb, weight, certainty: 1.0 }
    }

    fn head(anchors: Vec<Vec<[f32; 2]>>, xy_scales: &[f32]) -> Head {
        Head::Anchors { anchors, xy_scales: xy_scales.to_vec() }
    }

    /// 64 px at strides 16 and 32, two anchors each: 2·16 + 2·4 places.
    fn example() -> Vec<Place> {
        let anchors = vec![vec![[8.0, 8.0], [16.0, 8.0]], vec![[32.0, 32.0], [24.0, 60.0]]];
        places(64, &[16, 32], &head(anchors, &[]))
    }

    /// No prediction overlaps anything.
    fn nowhere(places: &[Place]) -> Vec<[f32; 4]> {
        vec![[-2.0, -2.0, -1.0, -1.0]; places.len()]
    }

    #[test]
    fn an_object_goes_to_the_best_shape_in_the_cell_of_its_centre() {
        let places = example();
        assert_eq!(places.len(), 40);
        assert_eq!(places[17], Place { corner: [16.0, 0.0], stride: 16.0, anchor: [16.0, 8.0], xy_scale: 1.0 });
        // 14×8 around (40, 21). Shapes: 8×8 64/112 = 0.571; 16×8 112/128 = 0.875; 32×32 112/1024; 24×60 less.
        // Cell (2, 1) of the fine map, second anchor: 16 + 1·4 + 2.
        let wide = target(3, [33.0, 17.0, 47.0, 25.0], 1.0);
        // 30×40 around (20, 40). 32×32 960/1264 = 0.759; 24×60 960/1680 = 0.571; the small ones below 0.11.
        // Cell (0, 1) of the coarse map, first anchor: 32 + 1·2.
        let large = target(1, [5.0, 20.0, 35.0, 60.0], 0.5);
        let result = assign(&places, &nowhere(&places), &[wide, large]);
        assert_eq!(result, ImageAssignment { positives: vec![(22, 0), (34, 1)], ignored: vec![] });
    }

    #[test]
    fn of_two_objects_in_one_place_the_better_shape_is_learned() {
        let places = example();
        let loose = target(0, [2.0, 2.0, 12.0, 12.0], 1.0); // 10×10 in 8×8: 0.64.
        let tight = target(1, [3.0, 3.0, 12.0, 11.0], 1.0); // 9×8: 0.889.
        for (targets, learned) in [([loose, tight], 1), ([tight, loose], 0)] {
            assert_eq!(assign(&places, &nowhere(&places), &targets).positives, [(0, learned)]);
        }
        // An ignored target never replaces a learned one, however well it fits.
        let foreign = Target { weight: 0.0, ..tight };
        for (targets, learned) in [([loose, foreign], 0), ([foreign, loose], 1)] {
            let result = assign(&places, &nowhere(&places), &targets);
            assert_eq!(result, ImageAssignment { positives: vec![(0, learned)], ignored: vec![] });
        }
    }

    #[test]
    fn good_predictions_elsewhere_and_foreign_objects_are_not_punished() {
        let places = example();
        let mut boxes = nowhere(&places);
        // Its own place is 0. IoU 64/80 = 0.8 at place 5; 64/100 = 0.64 at place 6.
        let object = [4.0, 4.0, 12.0, 12.0];
        (boxes[5], boxes[6]) = ([4.0, 4.0, 12.0, 14.0], [4.0, 4.0, 14.0, 14.0]);
        let result = assign(&places, &boxes, &[target(0, object, 1.0)]);
        assert_eq!(result, ImageAssignment { positives: vec![(0, 0)], ignored: vec![5] });
        let result = assign(&places, &boxes, &[target(0, object, 0.0)]);
        assert_eq!(result, ImageAssignment { positives: vec![], ignored: vec![0, 5] });
    }

    #[test]
    fn a_loss_by_hand() {
        // One cell of 32 px, one anchor of 16×8, two classes, everything 0: the box is 16×8 around (16, 16).
        let places = places(32, &[32], &head(vec![vec![[16.0, 8.0]]], &[]));
        let values = Tensor::zeros([1, 1, 7], tch::kind::FLOAT_CPU);
        let exact = [8.0, 12.0, 24.0, 20.0];
        let of = |targets: Vec<Target>| loss(&values, &places, &[targets]).unwrap();
        let ln2 = std::f64::consts::LN_2;
        let is = |loss: &Loss, [object, class, bbox]: [f64; 3]| {
            let off = (loss.object() - object).abs() + (loss.class() - class).abs() + (loss.bbox() - bbox).abs();
            let total = object + class + 4.0 * bbox;
            off < 1e-5 && (loss.total.double_value(&[]) - total).abs() < 1e-5
        };
        assert!(is(&of(vec![]), [ln2, 0.0, 0.0]), "an empty cell");
        assert!(is(&of(vec![target(0, exact, 0.0)]), [0.0, 0.0, 0.0]), "neither hit nor miss");
        assert!(is(&of(vec![target(1, exact, 1.0)]), [ln2, 2.0 * ln2, 0.0]), "the box is right already");
        // Half as high: IoU 1/2, the same centre; a weight cancels out where there is one object and it is above 1.
        let half = of(vec![target(1, [8.0, 14.0, 24.0, 18.0], 2.0)]);
        // CIoU's third part: v = 4/π²·(atan(4) - atan(2))², α = v / (1 - IoU + v).
        let shape = 4.0 / std::f64::consts::PI.powi(2) * (4f64.atan() - 2f64.atan()).powi(2);
        assert!(is(&half, [ln2, 2.0 * ln2, 0.5 + shape * shape / (0.5 + shape)]), "{}", half.bbox());
        // A weight below 1 is not a share of anything else here, so it is not normalised.
        assert!(is(&of(vec![target(1, exact, 0.5)]), [0.5 * ln2, ln2, 0.0]), "half a vote");
    }

    #[test]
    fn following_the_gradient_fits_the_objects() {
        tch::manual_seed(1);
        let places = example();
        let random = Tensor::randn([2, places.len() as i64, 8], tch::kind::FLOAT_CPU) * 0.3;
        let mut values = random.set_requires_grad(true);
        let targets = vec![
            vec![target(0, [5.0, 5.0, 40.0, 30.0], 1.0), target(1, [30.0, 30.0, 60.0, 60.0], 0.0)],
            vec![target(2, [20.0, 10.0, 50.0, 60.0], 0.5), target(1, [2.0, 40.0, 10.0, 50.0], 1.0)],
        ];
        let before = loss(&values, &places, &targets).unwrap();
        for _ in 0..500 {
            loss(&values, &places, &targets).unwrap().total.backward();
            tch::no_grad(|| {
                let gradient = values.grad();
                let _ = values.g_add_(&(gradient * -0.2));
                values.zero_grad();
            });
        }
        let after = loss(&values, &places, &targets).unwrap();
        assert!(after.bbox() < 0.4 * before.bbox(), "boxes {} -> {}", before.bbox(), after.bbox());
        assert!(after.class() < 0.2 * before.class(), "classes {} -> {}", before.class(), after.class());
        assert!(after.object() < 0.2 * before.object(), "objectness {} -> {}", before.object(), after.object());
        // The place of the ignored object has learned nothing: (45, 45) is in cell (1, 1) of the coarse map, 30×30.
        let ignored = values.get(0).get(32 + 3);
        assert_eq!(assign(&places, &nowhere(&places), &targets[0]).ignored, [32 + 3]);
        assert!(ignored.get(4).double_value(&[]).abs() < 2.0, "it was random around 0");
    }

    /// The trainer and the exported file decode the head's maps equally. YOLO-Lite has no normalisation, so a network
    /// in training computes the same as the exported one.
    #[test]
    fn boxes_and_scores_are_those_of_the_exported_network() {
        let network = zoo::network("yolo_lite", 3).unwrap();
        agrees_with_its_export(&network);
        let mut scaled = network;
        let LayerKind::Detect { head: Head::Anchors { xy_scales, .. } } =
            &mut scaled.layers.last_mut().unwrap().kind
        else {
            panic!("YOLO-Lite has anchors")
        };
        *xy_scales = vec![1.2];
        agrees_with_its_export(&scaled);
    }

    fn agrees_with_its_export(network: &Network) {
        use tract_onnx::prelude::*;
        let side = 64;
        let graph = network.graph().unwrap();
        let weights = crate::reference::random_weights(&graph, 8);
        let rgb: Vec<u8> = (0..3 * side * side).map(|i| (i * 37 % 251) as u8).collect();

        let layout = Layout::new(&graph);
        let (mut learned, mut measured) = (vec![0.0; layout.learned as usize], vec![0.0; layout.measured as usize]);
        layout.gather(&weights, &mut learned, &mut measured);
        let (learned, measured) = (tch::Tensor::from_slice(&learned), tch::Tensor::from_slice(&measured));
        let mut replica = Replica::new(network, &layout, &learned, measured, Kind::Float, None, None).unwrap();
        let image = tch::Tensor::from_slice(&rgb).view([1, side as i64, side as i64, 3]);
        let Predictions::Anchors(values) = replica.forward(&image).unwrap() else {
            panic!("YOLO-Lite has anchors")
        };
        let places = places(side, &graph.head_strides(), graph.head().unwrap());
        let boxes = to_vec(&boxes(&values, &places).unwrap().detach()).unwrap();
        let values = to_vec(&values.detach()).unwrap();

        let onnx = crate::export::to_onnx(network, &weights, (side, side), crate::export::Storage::Single).unwrap();
        let model = tract_onnx::onnx().model_for_read(&mut onnx.as_slice()).unwrap();
        let model = model.into_optimized().unwrap().into_runnable().unwrap();
        let planes: Vec<f32> = (0..3 * side * side)
            .map(|i| f32::from(rgb[i % (side * side) * 3 + i / (side * side)]) / 255.0)
            .collect();
        let input = tract_onnx::prelude::Tensor::from_shape(&[1, 3, side, side], &planes).unwrap();
        let output = model.run(tvec!(input.into_tvalue())).unwrap();
        let exported = output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        assert_eq!(exported.len(), 7 * places.len());
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        for place in 0..places.len() {
            let [l, t, r, b] = *boxes.as_chunks().0.get(place).unwrap();
            let row = &values[place * 8..][..8];
            let scores = [5, 6, 7].map(|i| sigmoid(row[i]) * sigmoid(row[4]));
            let ours = [(l + r) / 2.0, (t + b) / 2.0, r - l, b - t, scores[0], scores[1], scores[2]];
            for (i, ours) in ours.into_iter().enumerate() {
                let theirs = exported[i * places.len() + place];
                assert!((ours - theirs).abs() < 1e-3 * (1.0 + theirs.abs()), "place {place}: {i}: {ours} {theirs}");
            }
        }
    }
}
