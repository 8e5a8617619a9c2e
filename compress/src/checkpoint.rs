//! Weights by name, in safetensors files that also contain the network.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::network::{Graph, Network, NodeId, Op};
use crate::scale::Scales;

/// A tensor's shape and values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array {
    /// Row-major; a convolution's is OIHW.
    pub shape: Vec<usize>,
    /// The values; their number is the product of `shape`.
    pub values: Vec<f32>,
}

/// Tensors by name (see [`crate::network::Node::name`]).
pub type Weights = BTreeMap<String, Array>;

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 16-bit floats: half the size, and accurate enough for weights. Tensors with values too large for them are stored
    /// in 32 bits.
    Half,
    /// 32-bit floats, for a run that is continued.
    Single,
}

/// A tensor that a network has.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// As in the files.
    pub name: String,
    /// The convolution that it belongs to.
    pub node: NodeId,
    /// Row-major.
    pub shape: Vec<usize>,
    /// Learned, or only measured (the mean and variance of batch normalisation).
    pub learned: bool,
}

impl TensorSpec {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors of a network, in a fixed order.
pub fn tensors(graph: &Graph) -> Vec<TensorSpec> {
    let mut specs = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let &Op::Conv { input, kernel, groups, norm, .. } = &node.op else { continue };
        let mut spec = |part: &str, shape: Vec<usize>, learned| {
            specs.push(TensorSpec { name: format!("{}.{part}", node.name), node: id, shape, learned })
        };
        spec("conv.weight", vec![node.channels, input / groups, kernel, kernel], true);
        if norm {
            spec("bn.weight", vec![node.channels], true);
            spec("bn.bias", vec![node.channels], true);
            spec("bn.running_mean", vec![node.channels], false);
            spec("bn.running_var", vec![node.channels], false);
        } else {
            spec("conv.bias", vec![node.channels], true);
        }
    }
    specs
}

/// Whether a file is a checkpoint by its name, which ends in `.safetensors`.
pub fn is_named_so(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

/// Reads a file's tensors, and the network if it carries one.
///
/// # Errors
///
/// The file cannot be read, is not a complete safetensors file, has tensors other than 16- or 32-bit floats, or
/// contains an invalid network.
pub fn read(path: &Path) -> Result<(Weights, Option<Network>)> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let bad = |problem: String| Error::Checkpoint { path: path.to_owned(), problem };
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| bad(format!("is no intact safetensors file ({error}): give what `compress` wrote")))?;
    let mut weights = Weights::new();
    for (name, view) in file.tensors() {
        let bytes = view.data();
        let values = match view.dtype() {
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            other => return Err(bad(format!("tensor `{name}` is {other:?}, not F16 or F32"))),
        };
        weights.insert(name, Array { shape: view.shape().to_vec(), values });
    }
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| bad(error.to_string()))?;
    let network = match metadata.metadata().as_ref().and_then(|map| map.get("network")) {
        None => None,
        Some(json) => {
            let network: Network =
                serde_json::from_str(json).map_err(|error| bad(format!("its network: {error}")))?;
            network.graph()?;
            Some(network)
        }
    };
    Ok((weights, network))
}

/// Reads a checkpoint of this project: the network and all its tensors.
///
/// # Errors
///
/// As [`read`]; also a file without a network, or whose tensors are not the network's.
pub fn read_with_network(path: &Path) -> Result<(Network, Weights)> {
    let (weights, network) = read(path)?;
    let bad = |problem: String| Error::Checkpoint { path: path.to_owned(), problem };
    let network = network.ok_or_else(|| bad("carries no network: it was not written by `compress`".into()))?;
    check(&network.graph()?, &weights).map_err(bad)?;
    Ok((network, weights))
}

/// Reads the scales of int8 activations that the weights of a checkpoint were trained with. Empty if they were trained
/// without int8 rounding.
///
/// # Errors
///
/// The file cannot be read, is not a safetensors file, or has invalid scales.
pub fn read_scales(path: &Path) -> Result<Scales> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let bad = |problem: String| Error::Checkpoint { path: path.to_owned(), problem };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| bad(error.to_string()))?;
    let Some(json) = metadata.metadata().as_ref().and_then(|map| map.get(SCALES)) else { return Ok(Scales::new()) };
    let scales: Scales = serde_json::from_str(json).map_err(|error| bad(format!("its int8 scales: {error}")))?;
    match scales.iter().find(|(_, scale)| !scale.is_valid()) {
        Some((name, scale)) => Err(bad(format!("the int8 scale of `{name}` is none: {scale:?}"))),
        None => Ok(scales),
    }
}

/// Whether `weights` has every tensor of `graph`; else says which is missing or of another shape.
pub fn check(graph: &Graph, weights: &Weights) -> std::result::Result<(), String> {
    for spec in tensors(graph) {
        match weights.get(&spec.name) {
            None => return Err(format!("has no tensor `{}`: it belongs to another network", spec.name)),
            Some(array) if array.shape != spec.shape => {
                return Err(format!(
                    "tensor `{}` is {:?}, the network's is {:?}: it belongs to another network",
                    spec.name, array.shape, spec.shape
                ));
            }
            Some(array) if array.values.iter().any(|value| !value.is_finite()) => {
                return Err(format!("tensor `{}` has values that are no numbers", spec.name));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The average of several weights with the same tensors. Empty for an empty list.
///
/// The average of two runs that started from the same weights is often better than either (Wortsman et al. 2022, "Model
/// soups"). Running statistics are averaged as well, which is a good approximation if the runs are similar.
pub fn average(weights: &[Weights]) -> Weights {
    let Some((first, others)) = weights.split_first() else { return Weights::new() };
    let mut sums = first.clone();
    for (name, sum) in &mut sums {
        for array in others.iter().filter_map(|weights| weights.get(name)) {
            sum.values.iter_mut().zip(&array.values).for_each(|(sum, value)| *sum += value);
        }
        sum.values.iter_mut().for_each(|sum| *sum /= weights.len() as f32);
    }
    sums
}

/// Writes `weights` and their network, completely or not at all.
///
/// # Errors
///
/// [`Error::Io`]: a full disk … An existing file then stays unchanged.
pub fn write(path: &Path, network: &Network, weights: &Weights, precision: Precision) -> Result<()> {
    write_with_scales(path, network, weights, precision, &Scales::new())
}

/// The name of the scales in a file's metadata.
const SCALES: &str = "int8";

/// [`write()`] with the scales of int8 activations that the weights were trained with.
///
/// # Errors
///
/// Those of [`write()`].
pub fn write_with_scales(
    path: &Path,
    network: &Network,
    weights: &Weights,
    precision: Precision,
    scales: &Scales,
) -> Result<()> {
    let arrays: Vec<(&String, &Array, Dtype, Vec<u8>)> = weights
        .iter()
        .map(|(name, array)| {
            let values = &array.values;
            let (dtype, bytes) = match precision {
                Precision::Half if fits_half(values) => {
                    let mut halves = vec![f16::ZERO; values.len()];
                    halves.convert_from_f32_slice(values);
                    (Dtype::F16, halves.iter().flat_map(|value| value.to_le_bytes()).collect())
                }
                _ => (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            };
            (name, array, dtype, bytes)
        })
        .collect();
    let bad = |error: safetensors::SafeTensorError| Error::Checkpoint {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    let views = arrays
        .iter()
        .map(|(name, array, dtype, bytes)| {
            TensorView::new(*dtype, array.shape.clone(), bytes).map(|view| (name.as_str(), view)).map_err(bad)
        })
        .collect::<Result<Vec<_>>>()?;
    let network = serde_json::to_string(network).map_err(Error::json(path))?;
    let mut metadata = HashMap::from([("network".to_owned(), network)]);
    if !scales.is_empty() {
        metadata.insert(SCALES.to_owned(), serde_json::to_string(scales).map_err(Error::json(path))?);
    }
    write_whole(path, &safetensors::serialize(views, Some(metadata)).map_err(bad)?)
}

/// Whether 16-bit floats can hold all finite values among these.
pub(crate) fn fits_half(values: &[f32]) -> bool {
    values.iter().all(|value| !value.is_finite() || f16::from_f32(*value).is_finite())
}

/// A file beside `path`, to be written in its place. Several programs may write the same file, such as the shards of an
/// exploration.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.part", fastrand::u64(..)));
    path.with_file_name(name)
}

/// Whether it is there and neither file nor folder. A new file would take the place of a device, for good.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Sees that [`write_whole`] can write a file, before the work for it begins. Makes its folder.
///
/// # Errors
///
/// [`Error::Io`].
pub fn check_output(path: &Path) -> Result<()> {
    if is_special(path) {
        return Ok(());
    }
    if path.is_dir() {
        return Err(Error::io(path)(std::io::ErrorKind::IsADirectory.into()));
    }
    let part = part_of(path);
    make_folder(path).and_then(|()| std::fs::File::create_new(&part)).map_err(Error::io(path))?;
    std::fs::remove_file(&part).map_err(Error::io(&part))
}

/// Makes the folder of a file.
fn make_folder(path: &Path) -> std::io::Result<()> {
    // Empty for a bare file name.
    match path.parent().filter(|folder| *folder != Path::new("")) {
        Some(folder) => std::fs::create_dir_all(folder),
        None => Ok(()),
    }
}

/// Writes a file so that a kill or a full disk leaves either the old one or the new one, never a part. What is no file,
/// such as `/dev/stdout` or a pipe, is written to. Makes its folder.
///
/// # Errors
///
/// [`Error::Io`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    // Renaming would permanently replace a device by a file.
    if is_special(path) {
        return std::fs::write(path, bytes).map_err(Error::io(path));
    }
    let part = part_of(path);
    let write = || {
        make_folder(path)?;
        let mut file = std::fs::File::create_new(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&part); // The first error is the one to report.
        Error::Io { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Scale;

    #[test]
    fn averages_are_in_the_middle() {
        let weights = |value: f32| -> Weights {
            Weights::from([("a".to_owned(), Array { shape: vec![2], values: vec![value, -value] })])
        };
        assert_eq!(average(&[weights(1.0), weights(2.0), weights(6.0)]), weights(3.0));
        assert_eq!(average(&[weights(5.0)]), weights(5.0));
        assert_eq!(average(&[]), Weights::new());
    }

    #[test]
    fn another_program_may_be_writing_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        // A file with a fixed name could belong to another program.
        std::fs::create_dir(folder.path().join("a.json.part")).unwrap();
        let write = |text: &str| write_whole(&path, text.as_bytes()).unwrap();
        std::thread::scope(|scope| {
            for text in ["first", "other"] {
                scope.spawn(move || (0..20).for_each(|_| write(text)));
            }
        });
        assert!(["first", "other"].contains(&std::fs::read_to_string(&path).unwrap().as_str()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no part is left");
    }

    /// With root rights, `/dev/null` could be replaced. A link to it stands for it here.
    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        write_whole(&link, b"text").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(&link).unwrap(), b"");
    }

    fn some_weights(network: &Network) -> Weights {
        let specs = tensors(&network.graph().unwrap());
        let array = |spec: &TensorSpec| Array {
            shape: spec.shape.clone(),
            values: (0..spec.count()).map(|i| (i % 17) as f32 / 16.0).collect(),
        };
        specs.iter().map(|spec| (spec.name.clone(), array(spec))).collect()
    }

    #[test]
    fn a_checkpoint_comes_back_with_its_network() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let network = crate::zoo::network("micro_yolo", 3).unwrap();
        let weights = some_weights(&network); // Sixteenths are exact in half precision.
        for precision in [Precision::Half, Precision::Single] {
            write(&path, &network, &weights, precision).unwrap();
            assert_eq!(read_with_network(&path).unwrap(), (network.clone(), weights.clone()));
        }
    }

    #[test]
    fn what_is_too_large_for_half_precision_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let network = crate::zoo::network("micro_yolo", 3).unwrap();
        let mut weights = some_weights(&network);
        weights.get_mut("stem.bn.running_var").unwrap().values[1] = 65_536.0;
        write(&path, &network, &weights, Precision::Half).unwrap();
        assert_eq!(read_with_network(&path).unwrap().1, weights);
        let whole: usize = weights.values().map(|array| 4 * array.values.len()).sum();
        assert!(std::fs::metadata(&path).unwrap().len() < whole as u64, "the other tensors have 16 bits");
    }

    #[test]
    fn the_scales_of_a_training_come_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let network = crate::zoo::network("micro_yolo", 3).unwrap();
        let weights = some_weights(&network);
        write(&path, &network, &weights, Precision::Half).unwrap();
        assert_eq!(read_scales(&path).unwrap(), Scales::new());
        let mut scales = Scales::from([("stem".to_owned(), Scale { scale: 0.1, zero_point: 7 })]);
        write_with_scales(&path, &network, &weights, Precision::Half, &scales).unwrap();
        assert_eq!(read_scales(&path).unwrap(), scales);
        assert_eq!(read_with_network(&path).unwrap(), (network.clone(), weights.clone()));
        for wrong in [Scale { scale: -0.1, zero_point: 7 }, Scale { scale: 0.1, zero_point: 200 }] {
            scales.insert("stem".to_owned(), wrong);
            write_with_scales(&path, &network, &weights, Precision::Half, &scales).unwrap();
            assert!(read_scales(&path).unwrap_err().to_string().contains("stem"));
        }
    }

    #[test]
    fn foreign_and_damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let network = crate::zoo::network("micro_yolo", 3).unwrap();
        let mut weights = some_weights(&network);
        write(&path, &network, &weights, Precision::Half).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(matches!(read_with_network(&path), Err(Error::Checkpoint { .. })), "{length}");
        }
        weights.remove("stem.conv.weight");
        write(&path, &network, &weights, Precision::Half).unwrap();
        assert!(read_with_network(&path).unwrap_err().to_string().contains("stem.conv.weight"));
        // No folder can be made where a file is.
        let below = path.join("a.safetensors");
        assert!(matches!(write(&below, &network, &weights, Precision::Half), Err(Error::Io { .. })));
    }
}
