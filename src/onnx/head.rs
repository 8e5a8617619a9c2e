//! The description of a network's head that this project's exporter writes into the metadata.
//!
//! The graph in the file also computes boxes and scores, so that it works in every runtime. But only a few dozen of
//! thousands of cells contain an object. So the engine stops at the maps that the head reads, and leaves the rest to
//! the decoder.
//!
//! The value of [`KEY`] is JSON:
//! - `kind`: `anchor_free`, `distribution` or `anchors`;
//! - `maps`: names of tensors, one list per stride: the sides of boxes and the classes, both `[1, channels, h, w]` (for
//!   `anchors` one map with both);
//! - `strides`: width and height of a cell of those maps in pixels of the input, one number per list of maps;
//! - `offset`: the point in the cell from which sides are measured, in strides from its left and upper border (not for
//!   `anchors`);
//! - `limit` (for `anchor_free`): the sides' distances are `exp(min(x, limit))` strides;
//! - `bins` (for `distribution`): number of bins per side; the distance is the mean of their distribution;
//! - `anchors` (for `anchors`): for each stride the widths and heights, in pixels of the input;
//! - `xy_scales` (for `anchors`, optional): for each stride YOLOv4's scale s of x and y: `s * sigmoid(x) - (s - 1) / 2`
//!   strides from the border of the cell. Without it they are 1.

use super::names::{self, Literal};

/// The key in `metadata_props`.
pub(crate) const KEY: &str = "micro_yolo.head";

/// Upper limit for the number of maps, bins or anchors. Real detectors have fewer.
const MOST: usize = 256;

/// The description of a head.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    pub kind: HeadKind,
    /// One per stride.
    pub levels: Vec<Level>,
}

/// How the maps are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum HeadKind {
    AnchorFree { offset: f32, limit: f32 },
    Distribution { offset: f32, bins: usize },
    Anchors,
}

/// The maps of a stride.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Level {
    pub stride: u32,
    /// The map of sides and the map of classes, or one map with both.
    pub maps: Vec<String>,
    /// Width and height of each anchor, in pixels of the input. Empty except for [`HeadKind::Anchors`].
    pub anchors: Vec<[f32; 2]>,
    /// Scale of x and y in a cell; 1 except for [`HeadKind::Anchors`].
    pub xy_scale: f32,
}

impl Head {
    /// Reads the metadata's value. `None` if anything is missing, of another type or out of bounds. The graph of the
    /// file is then run to its end.
    pub(crate) fn read(text: &str) -> Option<Head> {
        let Literal::Map(fields) = names::parse(text).ok()? else { return None };
        let field = |name: &str| {
            let named = |(key, value): &(Literal, Literal)| match key {
                Literal::Text(key) if key == name => Some(value.clone()),
                _ => None,
            };
            fields.iter().find_map(named)
        };
        let list = |value: Literal| match value {
            Literal::List(items) if (1..=MOST).contains(&items.len()) => Some(items),
            _ => None,
        };
        let number = |value: Literal| match value {
            Literal::Number(number) => number.parse::<f32>().ok().filter(|number| number.is_finite()),
            _ => None,
        };
        let whole = |value: Literal| number(value).filter(|n| n.fract() == 0.0 && (1.0..=4096.0).contains(n));
        let offset = || field("offset").and_then(number).filter(|offset| (0.0..=1.0).contains(offset));
        let Literal::Text(kind) = field("kind")? else { return None };
        let kind = match kind.as_str() {
            "anchor_free" => {
                let limit = field("limit").and_then(number).filter(|limit| *limit < 80.0)?;
                HeadKind::AnchorFree { offset: offset()?, limit }
            }
            "distribution" => {
                let bins = field("bins").and_then(whole)? as usize;
                HeadKind::Distribution { offset: offset()?, bins: (2..=MOST).contains(&bins).then_some(bins)? }
            }
            "anchors" => HeadKind::Anchors,
            _ => return None,
        };
        let maps = list(field("maps")?)?.into_iter().map(|maps| {
            let names = list(maps)?.into_iter().map(|name| match name {
                Literal::Text(name) => Some(name),
                _ => None,
            });
            let names = names.collect::<Option<Vec<String>>>()?;
            (names.len() == if kind == HeadKind::Anchors { 1 } else { 2 }).then_some(names)
        });
        let maps = maps.collect::<Option<Vec<_>>>()?;
        let strides = list(field("strides")?)?.into_iter().map(|stride| Some(whole(stride)? as u32));
        let strides = strides.collect::<Option<Vec<u32>>>()?;
        let anchors = match kind {
            HeadKind::Anchors => {
                let pair = |pair: Literal| {
                    let sides = list(pair)?.into_iter().map(number).collect::<Option<Vec<f32>>>()?;
                    let sides: [f32; 2] = sides.try_into().ok()?;
                    sides.iter().all(|side| *side > 0.0).then_some(sides)
                };
                let of_map = |map: Literal| list(map)?.into_iter().map(pair).collect::<Option<Vec<_>>>();
                list(field("anchors")?)?.into_iter().map(of_map).collect::<Option<Vec<_>>>()?
            }
            _ => vec![Vec::new(); maps.len()],
        };
        let xy_scales = match field("xy_scales").filter(|_| kind == HeadKind::Anchors) {
            Some(scales) => {
                let scale = |value| number(value).filter(|scale| (1.0..=2.0).contains(scale));
                list(scales)?.into_iter().map(scale).collect::<Option<Vec<f32>>>()?
            }
            None => vec![1.0; maps.len()],
        };
        if [strides.len(), anchors.len(), xy_scales.len()] != [maps.len(); 3] {
            return None;
        }
        let levels = maps.into_iter().zip(strides).zip(anchors.into_iter().zip(xy_scales));
        let level = |((maps, stride), (anchors, xy_scale))| Level { stride, maps, anchors, xy_scale };
        let levels = levels.map(level).collect();
        Some(Head { kind, levels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const DISTRIBUTION: &str = r#"{"kind":"distribution","maps":[["bins8","scores8"],["bins16","scores16"]],
        "strides":[8,16],"bins":8,"offset":0.0}"#;
    const ANCHORS: &str = r#"{"kind":"anchors","maps":[["all16"],["all32"]],"strides":[16,32],"anchors":[[[10,14.5]],[[81,82],[135,169]]]}"#;

    #[test]
    fn each_kind_is_read() {
        let level = |stride, maps: &[&str], anchors: &[[f32; 2]]| Level {
            stride,
            maps: maps.iter().map(|name| (*name).to_owned()).collect(),
            anchors: anchors.to_vec(),
            xy_scale: 1.0,
        };
        let levels = vec![level(8, &["bins8", "scores8"], &[]), level(16, &["bins16", "scores16"], &[])];
        let kind = HeadKind::Distribution { offset: 0.0, bins: 8 };
        assert_eq!(Head::read(DISTRIBUTION), Some(Head { kind, levels: levels.clone() }));
        let anchor_free = DISTRIBUTION.replace("distribution", "anchor_free").replace("\"bins\"", "\"limit\"");
        let kind = HeadKind::AnchorFree { offset: 0.0, limit: 8.0 };
        assert_eq!(Head::read(&anchor_free), Some(Head { kind, levels }));
        let levels =
            vec![level(16, &["all16"], &[[10.0, 14.5]]), level(32, &["all32"], &[[81.0, 82.0], [135.0, 169.0]])];
        assert_eq!(Head::read(ANCHORS), Some(Head { kind: HeadKind::Anchors, levels: levels.clone() }));
        let scaled = ANCHORS.replace("\"strides\"", "\"xy_scales\":[1.2,1.05],\"strides\"");
        let scales = levels.into_iter().zip([1.2, 1.05]);
        let levels = scales.map(|(level, xy_scale)| Level { xy_scale, ..level }).collect();
        assert_eq!(Head::read(&scaled), Some(Head { kind: HeadKind::Anchors, levels }));
    }

    #[test]
    fn what_is_not_of_the_form_says_nothing() {
        assert!(Head::read("").is_none() && Head::read("7").is_none() && Head::read("{\"kind\":").is_none());
        let changes = [
            ("distribution", "splines"),
            ("\"kind\"", "\"sort\""),
            ("[8,16]", "[8]"),
            ("[8,16]", "[8,-16]"),
            ("[8,16]", "[8,16.5]"),
            ("[8,16]", "[8,1e30]"),
            ("\"bins\":8", "\"bins\":1"),
            ("\"bins\":8", "\"bins\":1000"),
            ("\"bins\":8", "\"bins\":\"8\""),
            ("\"offset\":0.0", "\"offset\":1.5"),
            ("\"offset\":0.0", "\"offset\":NaN"),
            (",\"offset\":0.0", ""),
            ("[\"bins8\",\"scores8\"]", "[\"bins8\"]"),
            ("[\"bins8\",\"scores8\"]", "[7,8]"),
            ("[\"bins8\",\"scores8\"]", "[]"),
        ];
        for (from, to) in changes {
            let text = DISTRIBUTION.replace(from, to);
            assert!(text != DISTRIBUTION && Head::read(&text).is_none(), "{text}");
        }
        for (from, to) in [("[[10,14.5]],", ""), ("[10,14.5]", "[10]"), ("14.5", "-1"), ("14.5", "inf")] {
            let text = ANCHORS.replace(from, to);
            assert!(text != ANCHORS && Head::read(&text).is_none(), "{text}");
        }
        for scales in
            ["1.05", "[1.05]", "[1.05,0]", "[1.05,-1]", "[1.05,0.5]", "[1.05,1e9]", "[1.05,NaN]", "[1.05,[1]]"]
        {
            let text = ANCHORS.replace("\"strides\"", &format!("\"xy_scales\":{scales},\"strides\""));
            assert!(Head::read(&text).is_none(), "{text}");
        }
    }
}
