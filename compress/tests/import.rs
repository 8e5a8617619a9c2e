//! `compress import`: Darknet's files against what PyTorch computes of them by Darknet's definition (`import/make.py`),
//! and what is wrong with files in the ways files go wrong.
#![allow(clippy::unwrap_used)] // Clippy allows it in tests, not in what they call.

use std::path::{Path, PathBuf};

use compress::export::{Storage, to_onnx};
use compress::import::{Imported, Options, darknet};
use compress::network::{Head, LayerKind, Network};
use compress::{Error, Result, checkpoint};
use tract_onnx::prelude::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)
}

fn cfg_text() -> String {
    std::fs::read_to_string(fixture("tiny.cfg")).unwrap()
}

fn weights_bytes() -> Vec<u8> {
    std::fs::read(fixture("tiny.weights")).unwrap()
}

fn import(cfg: &str, weights: &[u8], options: &Options) -> Result<Imported> {
    let folder = tempfile::tempdir().unwrap();
    let (cfg_path, weights_path) = (folder.path().join("my-yolo.cfg"), folder.path().join("my-yolo.weights"));
    std::fs::write(&cfg_path, cfg).unwrap();
    std::fs::write(&weights_path, weights).unwrap();
    darknet(&cfg_path, &weights_path, options)
}

/// `output0` of the exported network for the picture of `make.py`.
fn output(imported: &Imported) -> Vec<f32> {
    let (width, height) = imported.input_px;
    let onnx = to_onnx(&imported.network, &imported.weights, (width, height), Storage::Single).unwrap();
    let model = tract_onnx::onnx().model_for_read(&mut onnx.as_slice()).unwrap();
    let model = model.into_optimized().unwrap().into_runnable().unwrap();
    let pixels: Vec<f32> = (0..3 * height * width).map(|i| (i * 7919 % 256) as f32 / 255.0).collect();
    let input = tract_onnx::prelude::Tensor::from_shape(&[1, 3, height, width], &pixels).unwrap();
    let output = model.run(tvec!(input.into_tvalue())).unwrap();
    output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

fn expected(name: &str, version: &str) -> Vec<f32> {
    let text = std::fs::read_to_string(fixture(&format!("{name}.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["output0"][version].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f32::max)
}

#[test]
fn three_heads_of_other_classes_and_anchors_compute_what_darknet_defines() {
    let imported = import(&cfg_text(), &weights_bytes(), &Options::default()).unwrap();
    assert_eq!(imported.network.name, "my-yolo");
    assert_eq!((imported.network.classes, imported.input_px), (2, (64, 32)));
    assert_eq!(imported.network.graph().unwrap().head_strides(), [8, 16, 32]);
    let ours = output(&imported);
    let original = expected("tiny", "0.2.0");
    assert!(distance(&ours, &original) < 1e-4, "{}", distance(&ours, &original));

    // What Darknet's successor adds to the variance differs from what the original adds to its root.
    let mut later = weights_bytes();
    later[8] = 5;
    let ours = output(&import(&cfg_text(), &later, &Options::default()).unwrap());
    let successor = expected("tiny", "0.2.5");
    assert!(distance(&ours, &successor) < 1e-4, "{}", distance(&ours, &successor));
    assert!(distance(&original, &successor) > 0.01, "the fixture tells the two apart");

    // Before 0.2 the number of images seen had four bytes.
    let mut early = weights_bytes();
    early[4] = 1;
    early.drain(16..20);
    let early = import(&cfg_text(), &early, &Options::default()).unwrap();
    assert_eq!(early.weights, imported.weights);
}

/// What YOLOv4-tiny has beside: blocks that go on with half of the channels, and scaled centres. The detector's tests
/// read the same file.
#[test]
fn centres_are_scaled_head_by_head_as_darknet_defines() {
    let name = "csp-with-scaled-centres";
    let (cfg, weights) = (fixture(&format!("{name}.cfg")), fixture(&format!("{name}.weights")));
    let imported = darknet(&cfg, &weights, &Options::default()).unwrap();
    let head = imported.network.graph().unwrap().head().unwrap().clone();
    // The cfg's heads are of strides 16, 8; ours are read from 8 on.
    assert_eq!([head.xy_scale(0), head.xy_scale(1)], [1.2, 1.05]);
    let onnx = to_onnx(&imported.network, &imported.weights, imported.input_px, Storage::Single).unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(fixture(&format!("{name}.onnx")), &onnx).unwrap();
        panic!("written");
    }
    let (ours, expected) = (output(&imported), expected(name, "0.2.5"));
    assert!(distance(&ours, &expected) < 1e-4, "{}", distance(&ours, &expected));

    let text = std::fs::read_to_string(&cfg).unwrap();
    let plain = import(&text.replace("scale_x_y", "max"), &std::fs::read(&weights).unwrap(), &Options::default());
    assert!(distance(&output(&plain.unwrap()), &expected) > 1e-2, "the fixture tells scales from none");
    let again: Network = serde_json::from_str(&imported.network.to_json()).unwrap();
    assert_eq!(again, imported.network);
}

#[test]
fn a_scale_of_one_is_yolov3s_head() {
    let with = |key: &str| {
        let cfg = cfg_text().replace("classes=2", &format!("classes=2\n{key}"));
        import(&cfg, &weights_bytes(), &Options::default()).unwrap()
    };
    assert_eq!(with("scale_x_y = 1.0"), with(""));
}

#[test]
fn the_checkpoint_comes_back_as_any_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("my.names");
    std::fs::write(&names, "cat\ndog\n").unwrap();
    let options = Options { names: Some(names), masks: None };
    let imported = import(&cfg_text(), &weights_bytes(), &options).unwrap();
    assert_eq!(imported.network.names, ["cat", "dog"]);
    let path = folder.path().join("a.safetensors");
    checkpoint::write(&path, &imported.network, &imported.weights, checkpoint::Precision::Single).unwrap();
    let (network, weights) = checkpoint::read_with_network(&path).unwrap();
    assert_eq!((&network, &weights), (&imported.network, &imported.weights));
    let again: Network = serde_json::from_str(&network.to_json()).unwrap();
    assert_eq!(again, network);
}

fn anchors(network: &Network) -> Vec<Vec<[f32; 2]>> {
    match &network.layers.last().unwrap().kind {
        LayerKind::Detect { head: Head::Anchors { anchors, .. } } => anchors.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn masks_are_the_cfgs_or_those_of_the_option() {
    let with = |masks: Option<&str>| {
        let masks = masks.map(|text| compress::import::parse_masks(text).unwrap());
        import(&cfg_text(), &weights_bytes(), &Options { names: None, masks })
    };
    // The cfg's heads are of strides 32, 16, 8; ours are read from 8 on.
    let cfgs = anchors(&with(None).unwrap().network);
    assert_eq!(cfgs, [vec![[12.0, 11.0]], vec![[15.0, 21.0], [6.0, 7.0]], vec![[30.0, 24.0], [48.0, 60.0]]]);
    let others = anchors(&with(Some("4,2;1,1;0")).unwrap().network);
    assert_eq!(others, [vec![[6.0, 7.0]], vec![[12.0, 11.0], [12.0, 11.0]], vec![[48.0, 60.0], [15.0, 21.0]]]);
    for (masks, told) in [
        ("3,4;2,0", "2 lists"),
        ("3;2,0;1", "list 1 has 1 numbers"),
        ("3,5;2,0;1", "5 names none of the 5 anchors"),
    ] {
        let error = with(Some(masks)).unwrap_err();
        assert!(matches!(error, Error::Option { option: "--masks", .. }), "{error}");
        assert!(error.to_string().contains(told), "{masks}: {error}");
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_with_the_numbers() {
    let bytes = weights_bytes();
    let values = (bytes.len() - 20) / 4;
    let wrong = std::cell::RefCell::new(Vec::new());
    let refused = |weights: &[u8], told: &[&str]| match import(&cfg_text(), weights, &Options::default()) {
        Err(error @ Error::DarknetWeights { .. }) if told.iter().all(|told| error.to_string().contains(told)) => {}
        other => wrong.borrow_mut().push(format!("{told:?}: {other:?}")),
    };
    refused(&[], &["too short for the header"]);
    refused(&bytes[..11], &["too short for the header"]);
    refused(&bytes[..12], &[&format!("{values} of {values} values are missing"), "layer 0 (line 17"]);
    refused(&bytes[..19], &["layer 0 (line 17"]);
    // The last convolution has 7 biases and 7×13×3×3 weights.
    refused(
        &bytes[..bytes.len() - 4],
        &[&format!("1 of {values} values are missing"), "layer 26", "has 825 of 826"],
    );
    refused(&bytes[..bytes.len() - 3], &["1 of ", "layer 26"]);
    refused(&bytes[..bytes.len() - 4 * 879], &["879 of ", "layer 20"]);
    let more = [&bytes[..], &[0; 9]].concat();
    refused(&more, &["9 bytes (2 values) are left over", "11 convolutions"]);
    // A header that claims another version: four of the eight bytes are then taken for a value.
    let mut other = bytes.clone();
    other[4] = 1;
    refused(&other, &["4 bytes (1 values) are left over", "version 0.1.0"]);
    let mut random = bytes.clone();
    random[..12].fill(0xff);
    refused(&random, &["left over", "version -1.-1.-1"]);

    let damaged = |at: usize, value: f32, told: &[&str]| {
        let mut bytes = bytes.clone();
        bytes[20 + 4 * at..][..4].copy_from_slice(&value.to_le_bytes());
        refused(&bytes, told);
    };
    damaged(0, f32::NAN, &["layer 0 (line 17 of the cfg), bias", "1 of 4 values"]);
    damaged(5, f32::INFINITY, &["layer 0", "scale"]);
    damaged(values - 1, f32::NEG_INFINITY, &["layer 26", "weights", "1 of 819"]);
    damaged(14, -0.5, &["layer 0", "variance of channel 2 is -0.5"]);
    damaged(4, f32::MAX, &["layer 0", "scale of channel 0 is too large"]);
    let wrong = wrong.into_inner();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cfgs_that_cannot_be_read_as_they_stand_name_section_and_line() {
    let text = cfg_text();
    let mut wrong = Vec::new();
    let mut refused = |from: &str, to: &str, told: &[&str]| {
        assert!(text.contains(from), "{from}");
        match import(&text.replacen(from, to, 1), &weights_bytes(), &Options::default()) {
            Err(error @ Error::Cfg { .. }) if told.iter().all(|told| error.to_string().contains(told)) => {}
            other => wrong.push(format!("{from:?} -> {to:?}: {other:?}")),
        }
    };
    let line = |of: &str| format!("my-yolo.cfg:{}: ", text[..text.find(of).unwrap()].lines().count() + 1);
    refused("[shortcut]\nfrom=-2\nactivation=linear", "[reorg]\nstride=2", &[&line("[shortcut]"), "[reorg]"]);
    refused("[shortcut]", "[Gaussian_yolo]", &["[Gaussian_yolo] is no section this import knows"]);
    refused("[shortcut]", "[shortcut", &["no closing bracket"]);
    refused("[shortcut]", "[net]", &["may only come first"]);
    refused("[net]", "[yolo]", &["my-yolo.cfg:1: ", "does not start with [net]"]);
    refused("[net]", "", &["stands before the first section"]);
    refused("[net]", "{\"a\": 1}", &["my-yolo.cfg:1: ", "is this a Darknet cfg?"]);
    refused("channels=3", "channels=1", &["`channels=1`"]);
    refused("width=64", "", &["[net] has no `width`"]);
    refused("width=64", "width=80", &["my-yolo.cfg:1: ", "80x32", "multiples of 32"]);
    refused("width=64", "width=99999999999999999999", &["is no number"]);
    refused("height=32", "height=-32", &["`height=-32`"]);
    // Layers that name others.
    refused("layers = -3", "layers = 14", &["[route] layer 14 does not come before this one, layer 13"]);
    refused("layers = -3", "layers = 13", &["does not come before"]);
    refused("layers = -3", "layers = -14", &["before the first"]);
    refused("layers = -3", "layers = -9223372036854775808", &["before the first"]);
    refused("layers = -3", "layers = -1", &["reads layer 12, a [yolo]"]);
    refused("layers = -3", "layers = ", &["is no number"]);
    refused("group_id = 1", "group_id = 2", &["`group_id=2`: 0 to 1"]);
    refused("groups = 2", "groups = 0", &["`groups=0`"]);
    refused("groups = 2", "groups = 3", &["[route] divides the 10 channels of `route22` into 3 groups"]);
    refused("[route]\nlayers = -3", "", &["[convolutional] reads layer 12, a [yolo]: put a [route] before it"]);
    refused("layers = -1, 7", "layers = -1, 4", &["reads layer 4, a depthwise convolution"]);
    refused("layers = -1, 7", "layers = -1, 8", &["joins maps of strides 16 and 32"]);
    refused("from=-2", "from=-4", &["[shortcut] adds 6 channels at stride 8 to 8 channels at stride 16"]);
    refused("from=-2\nactivation=linear", "from=-2\nactivation=leaky", &["behind a sum"]);
    refused("from=-2", "", &["[shortcut] has no `from`"]);
    // Convolutions.
    refused("activation=relu6", "activation=mish", &["activation `mish` is not supported"]);
    refused("activation=relu6", "", &["activation `logistic`"]);
    refused("filters=4\nsize=3", "filters=4\nsize=4", &["my-yolo.cfg:20: ", "kernel of side 4"]);
    refused("filters=4\nsize=3\nstride=2\npad=1", "filters=4\nsize=3\nstride=2\npad=0", &["a border of 0"]);
    refused("filters=4\nsize=3\nstride=2", "filters=4\nsize=3\nstride=3", &["`stride=3`: 1 to 2"]);
    refused("filters=4\nsize=3", "filters=0\nsize=3", &["`filters=0`"]);
    refused("filters=4\nsize=3", "filters=99999\nsize=3", &["`filters=99999`"]);
    refused("filters=4\nsize=3", "size=3", &["has no `filters`"]);
    refused("filters=4\nsize=3", "filters=4\nfilters=5\nsize=3", &["has `filters` twice, first in line 19"]);
    refused("filters=4\nsize=3", "filters=4\nsise=3", &["my-yolo.cfg:20: ", "has `sise`, which is not known here"]);
    refused("filters=4\nsize=3", "filters=4\ndilation=2\nsize=3", &["`dilation=2` is not supported"]);
    refused("groups=6", "groups=2", &["groups=2", "depthwise"]);
    refused(
        "filters = 8\nsize=1\nstride=1\npad=0",
        "filters = 8\nsize=3\nstride=1\npad=1",
        &["groups=6", "the convolution of line 52 is another"],
    );
    refused("[maxpool]\nsize=2\nstride=1", "[maxpool]\nsize=4\nstride=1", &["a window of 4 is not supported"]);
    refused("[maxpool]\nsize=2\nstride=1", "[maxpool]\nsize=2\nstride=1\npadding=0", &["`padding=0`"]);
    refused("[upsample]\nstride=2", "[upsample]\nstride=3", &["cannot enlarge a map of stride 32 3 times"]);
    refused("[upsample]\nstride=2", "[upsample]\nstride=2\nscale=2", &["`scale=2` is not supported"]);
    // Heads.
    refused("mask = 3,4", "mask = 3,5", &["[yolo] mask 5 names none of the 5 anchors"]);
    refused("mask = 3,4", "mask = 3,-4", &["is no number"]);
    refused("mask = 3,4", "mask = 3,4,0", &["[yolo] reads 14 filters; 3 anchors of 5 + 2 values need 21"]);
    refused("filters=14", "filters=255", &[&line("[yolo]"), "reads 255 filters; 2 anchors", "need 14"]);
    refused("classes=2", "classes=80", &["reads 14 filters", "need 170"]);
    refused("classes=2", "", &["has no `classes`"]);
    refused("num=5", "num=6", &["has 10 anchors' sides above 0 where num=6 needs 12"]);
    refused("48,60", "48,nan", &["anchors' sides above 0"]);
    refused("48,60", "48,x", &["is no number"]);
    for scale in ["0", "-1.05", "0.9", "2.1", "1e30", "nan", "inf"] {
        let line = format!("num=5\nscale_x_y={scale}");
        refused(
            "num=5",
            &line,
            &["my-yolo.cfg:104: [yolo] ", &format!("`scale_x_y={scale}`: 1 to 2 is supported")],
        );
    }
    refused("num=5", "num=5\nscale_x_y=1.05,1.05", &["`scale_x_y=1.05,1.05` is no number"]);
    refused("num=5", "num=5\nscale_x_y=1\nscale_x_y=1.05", &["has `scale_x_y` twice"]);
    refused("num=5", "num=5\nnew_coords=1", &["[yolo] `new_coords=1` is not supported"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let start = text.find("# 12").unwrap();
    let headless = text[..start].to_owned();
    let error = import(&headless, &weights_bytes(), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("my-yolo.cfg:1: [net] no [yolo] section follows"), "{error}");
    let end = text.find("[route]\nlayers = 3, -1").unwrap();
    let error = import(&text[..end], &weights_bytes(), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("[upsample] nothing reads this, layer 21"), "{error}");
    for empty in ["", "# only a comment\n", "\0\0\0"] {
        let error = import(empty, &weights_bytes(), &Options::default()).unwrap_err();
        assert!(matches!(error, Error::Cfg { .. }), "{error}");
    }
    assert!(matches!(
        darknet(&fixture("none.cfg"), &fixture("tiny.weights"), &Options::default()),
        Err(Error::Io { .. })
    ));
    assert!(matches!(
        darknet(&fixture("tiny.cfg"), &fixture("none.weights"), &Options::default()),
        Err(Error::Io { .. })
    ));
    assert!(darknet(&fixture("tiny.cfg"), &fixture(""), &Options::default()).is_err(), "a folder");
}

#[test]
fn names_that_do_not_fit_the_classes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("coco.names");
    std::fs::write(&names, "cat\n").unwrap();
    let error = import(&cfg_text(), &weights_bytes(), &Options { names: Some(names), masks: None }).unwrap_err();
    assert!(matches!(error, Error::Option { option: "--names", .. }), "{error}");
}
