//! The one error type of this crate.

use std::path::{Path, PathBuf};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the information that the user needs to correct it.
///
/// The command line prints it after `error: `. So messages are lower case, have no full stop, and say what to do if
/// that is not obvious.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A JSON file is not JSON or lacks a field.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The layers of a network description do not fit together.
    #[error("network `{network}`: {problem}")]
    Network {
        /// The network's name.
        network: String,
        /// Which layer, and what is wrong with it.
        problem: String,
    },
    /// A photograph or its boxes cannot be used.
    #[error("{}: {problem}", path.display())]
    Data {
        /// The annotation file or photograph.
        path: PathBuf,
        /// What is wrong, with the id of the image or annotation.
        problem: String,
    },
    /// A checkpoint is damaged or belongs to another network.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An ONNX file cannot be quantised.
    #[error("model {}: {problem}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Which tensor or node, and what is wrong with it.
        problem: String,
    },
    /// A Darknet cfg has something that this crate does not support, or is inconsistent.
    #[error("{}:{line}: {problem}", path.display())]
    Cfg {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// Which section, and what is wrong with it.
        problem: String,
    },
    /// A Darknet weights file is damaged or does not fit its cfg.
    #[error("weights {}: {problem}", path.display())]
    DarknetWeights {
        /// The file.
        path: PathBuf,
        /// Which layer, and how many values are wrong, missing or left over.
        problem: String,
    },
    /// An option has a value that cannot work.
    #[error("option {option}: {problem}")]
    Option {
        /// The option as typed, with its dashes.
        option: &'static str,
        /// What is wrong and what is valid.
        problem: String,
    },
    /// The detector crate refused a model or an image.
    #[error("detector: {}", with_causes(.0))]
    Detector(#[from] micro_yolo::Error),
    /// A figure could not be drawn.
    #[error("figure: {0}")]
    Figure(String),
    /// The work was interrupted; the same command continues it.
    #[error("stopped: the same command goes on from here")]
    Interrupted,
    /// The runtime failed on a network under quantisation.
    #[error("quantisation: {0}")]
    Quantisation(String),
    /// A teacher cannot be used, or does not fit its student.
    #[error("teacher {}: {problem}", path.display())]
    Teacher {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// libtorch failed.
    #[cfg(feature = "train")]
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// Training cannot start or continue.
    #[error("training: {0}")]
    Training(String),
    /// Values of a training are not finite any more.
    #[error("training diverged at step {step}: {cause}")]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// Which values, and what to do.
        cause: String,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { path, source }
    }

    /// For `map_err` on what the detector says of the model in a file.
    pub fn model(path: impl AsRef<Path>) -> impl FnOnce(Error) -> Error {
        let path = path.as_ref().to_owned();
        move |error| match error {
            Error::Detector(error) if error.is_model() => Error::Model { path, problem: with_causes(&error) },
            other => other,
        }
    }

    /// For `map_err` on JSON files.
    pub fn json(path: impl AsRef<Path>) -> impl FnOnce(serde_json::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Json { path, source }
    }
}

/// An error and what caused it, on one line.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some say their cause themselves.
        let why = error.to_string();
        if !text.contains(why.trim()) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    one_line(&text)
}

/// A text without line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why a photograph cannot be decoded.
pub(crate) fn undecodable(error: &image::ImageError) -> String {
    let hint = match error {
        image::ImageError::Unsupported(_) => ": convert it to JPEG, PNG or WebP",
        _ => "",
    };
    format!("{}{hint}", one_line(&error.to_string()))
}

/// Reads a text file without the byte order mark that programs on Windows begin it with.
///
/// # Errors
///
/// [`Error::Io`], and [`Error::Data`] for bytes that are no UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::Data {
        path: path.to_owned(),
        problem: "is no text in UTF-8: save it as UTF-8".into(),
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
