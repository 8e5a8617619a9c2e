//! Imports networks of other projects.
//!
//! [`darknet`] reads YOLOv3-tiny, YOLOv4-tiny and similar networks from Darknet. With the feature `train`, `nanodet`
//! reads NanoDet-Plus.

mod cfg;
#[cfg(feature = "train")]
mod nanodet;
mod weights;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::checkpoint::{self, Weights};
use crate::data::class_names;
use crate::error::{Error, Result};
use crate::network::Network;

#[cfg(feature = "train")]
pub use nanodet::nanodet;

/// The anchors of each head: for every `[yolo]` section, in the order of the cfg, the numbers of its anchors.
pub type Masks = Vec<Vec<usize>>;

/// Information that the files do not contain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The names of the classes, as [`class_names`] reads them. Without it the classes are numbered.
    pub names: Option<PathBuf>,
    /// Masks to use instead of those in the cfg.
    pub masks: Option<Masks>,
}

/// An imported network with its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Names of layers contain Darknet's numbers: `conv13` is layer 13 of Darknet's printout.
    pub network: Network,
    /// Every tensor of the network.
    pub weights: Weights,
    /// Width and height of the input in pixels, from the cfg. Anchors are in pixels, independent of the input size.
    pub input_px: (usize, usize),
    /// Differences from the files, one sentence each.
    pub notes: Vec<String>,
}

/// A weights file that was trained with other masks than those in its cfg.
struct Known<'a> {
    sha256: &'a str,
    whose: &'a str,
    masks: &'a [&'a [usize]],
}

/// Its cfg was changed after the training, to give the second head the anchors 0, 1, 2. With these its boxes have wrong
/// sizes, and AP50 on COCO falls from 37.8 to 22.8.
const YOLOV3_TINY: Known = Known {
    sha256: "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
    whose: "YOLOv3-tiny's authors",
    masks: &[&[3, 4, 5], &[1, 2, 3]],
};

/// Darknet's names of COCO's classes that COCO spells differently, by their position among the 80. `evaluate` uses the
/// names in the annotations.
const COCO_NAMES: [(usize, &str, &str); 6] = [
    (3, "motorbike", "motorcycle"),
    (4, "aeroplane", "airplane"),
    (57, "sofa", "couch"),
    (58, "pottedplant", "potted plant"),
    (60, "diningtable", "dining table"),
    (62, "tvmonitor", "tv"),
];

/// Reads a Darknet network: a `.cfg` and the `.weights` that were trained with it.
///
/// # Errors
///
/// [`Error::Cfg`], naming section and line: an unsupported or inconsistent layer. [`Error::DarknetWeights`]: a file
/// that does not fit the cfg, or has values that are not finite. [`Error::Option`]: masks or names that do not fit the
/// cfg. [`Error::Io`].
pub fn darknet(cfg: &Path, weights: &Path, options: &Options) -> Result<Imported> {
    read(cfg, weights, options, &YOLOV3_TINY)
}

fn read(cfg: &Path, weights: &Path, options: &Options, known: &Known) -> Result<Imported> {
    let text = read_text(cfg)?;
    let mut description = cfg::read(cfg, &text)?;
    let mut notes = Vec::new();
    if let Some(masks) = &options.masks {
        description.set_masks(masks)?;
    }
    let name = cfg.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut network = description.network(cfg, name)?;
    let bytes = weights::read(weights, &description.convolutions)?;
    let tensors = weights::tensors(weights, &bytes, &description.convolutions)?;
    if options.masks.is_none() && format!("{:x}", Sha256::digest(&bytes)) == known.sha256 {
        let trained: Masks = known.masks.iter().map(|mask| mask.to_vec()).collect();
        let named = description.masks();
        // The weights may fit a cfg with other heads by chance. The masks do not apply to those.
        if named != trained && description.set_masks(&trained).is_ok() {
            notes.push(format!(
                "these are the weights of {}, which were trained with the masks {}: they are taken instead of the cfg's \
                 ({}); --masks overrules that",
                known.whose,
                masks_text(&trained),
                masks_text(&named)
            ));
            network = description.network(cfg, network.name)?;
        }
    }
    if let Some(path) = &options.names {
        network.names = read_names(path, network.classes, &mut notes)?;
    }
    checkpoint::check(&network.graph()?, &tensors)
        .map_err(|problem| Error::DarknetWeights { path: weights.to_owned(), problem })?;
    Ok(Imported { network, weights: tensors, input_px: description.input_px, notes })
}

/// Parses `3,4,5;1,2,3`: one list per head.
///
/// # Errors
///
/// [`Error::Option`] for anything else.
pub fn parse_masks(text: &str) -> Result<Masks> {
    let numbers = |list: &str| list.split(',').map(|number| number.trim().parse().ok()).collect::<Option<Vec<_>>>();
    text.split(';').map(numbers).collect::<Option<Masks>>().ok_or_else(|| Error::Option {
        option: "--masks",
        problem: format!("`{text}` is not like 3,4,5;1,2,3: a list of anchors' numbers for each [yolo] section"),
    })
}

fn masks_text(masks: &Masks) -> String {
    let lists: Vec<String> =
        masks.iter().map(|mask| mask.iter().map(usize::to_string).collect::<Vec<_>>().join(",")).collect();
    lists.join(";")
}

fn read_names(path: &Path, classes: usize, notes: &mut Vec<String>) -> Result<Vec<String>> {
    let mut names = class_names(path)?;
    if names.len() != classes {
        let problem = format!("{} has {} names, the cfg {classes} classes", path.display(), names.len());
        return Err(Error::Option { option: "--names", problem });
    }
    if classes == 80 && COCO_NAMES.iter().all(|(class, darknet, _)| names[*class] == *darknet) {
        for (class, _, coco) in COCO_NAMES {
            names[class] = coco.into();
        }
        notes.push(
            "these are Darknet's names of COCO's classes: six are spelled as COCO does (motorcycle, airplane, couch, \
             potted plant, dining table, tv)"
                .into(),
        );
    }
    Ok(names)
}

/// Reads a text file in any encoding: comments in cfgs may have any characters, but only ASCII matters.
fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    Ok(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_as_documented() {
        assert_eq!(parse_masks("3,4,5;1, 2,3").unwrap(), [[3, 4, 5], [1, 2, 3]]);
        assert_eq!(parse_masks("0").unwrap(), [[0]]);
        for wrong in ["", "3,4,;1", "a", "1;;2", "-1", "3 4"] {
            assert!(matches!(parse_masks(wrong), Err(Error::Option { option: "--masks", .. })), "{wrong}");
        }
    }

    #[test]
    fn a_known_file_gets_the_masks_it_was_trained_with() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
        let (cfg, weights) = (folder.join("tiny.cfg"), folder.join("tiny.weights"));
        let sha256 = format!("{:x}", Sha256::digest(std::fs::read(&weights).unwrap()));
        let known = Known { sha256: &sha256, whose: "somebody", masks: &[&[3, 4], &[1, 2], &[0]] };
        let import = |masks: Option<&str>| {
            let masks = masks.map(|text| parse_masks(text).unwrap());
            read(&cfg, &weights, &Options { names: None, masks }, &known).unwrap()
        };
        let (taken, asked) = (import(None), import(Some("3,4;1,2;0")));
        assert_eq!(taken.network, asked.network);
        assert!(taken.notes[0].contains("3,4;1,2;0") && taken.notes[0].contains("3,4;2,0;1"), "{:?}", taken.notes);
        assert!(asked.notes.is_empty(), "what was asked for needs no note");
        // The cfg's own masks can be requested, and another file's masks stay.
        let others = import(Some("3,4;2,0;1")).network;
        assert_ne!(others, taken.network);
        assert_eq!(darknet(&cfg, &weights, &Options::default()).unwrap().network, others);
    }

    #[test]
    fn darknets_coco_names_become_cocos_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coco.names");
        let mut lines: Vec<String> = (0..80).map(|class| format!("thing {class}")).collect();
        for (class, darknet, _) in COCO_NAMES {
            lines[class] = darknet.into();
        }
        std::fs::write(&path, lines.join("\r\n") + "\n\n").unwrap();
        let mut notes = Vec::new();
        let names = read_names(&path, 80, &mut notes).unwrap();
        assert_eq!((names[62].as_str(), names[63].as_str(), notes.len()), ("tv", "thing 63", 1));
        // VOC's annotations use these names too.
        std::fs::write(&path, "sofa\ntvmonitor\n").unwrap();
        assert_eq!(read_names(&path, 2, &mut Vec::new()).unwrap(), ["sofa", "tvmonitor"]);
        let error = read_names(&path, 3, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("2 names") && error.contains("3 classes"), "{error}");
    }
}
