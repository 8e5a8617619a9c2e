//! The one error type of the crate.

use std::error::Error as StdError;
use std::fmt;

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be loaded or an image could not be processed.
///
/// The type is opaque, so that new causes do not break callers. The `is_*` methods and [`code`](Error::code) tell the
/// kind of error; the JavaScript package has the same codes in `error.code`. The message says what was found and what
/// was expected. [`source`](StdError::source) is the error of the runtime, if there is one.
///
/// ```
/// use micro_yolo::Detector;
///
/// let error = Detector::from_onnx(b"not a model").unwrap_err();
/// assert!(error.is_model());
/// assert_eq!(error.code(), "invalid-model");
/// ```
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    InvalidImage,
    ImageTooLarge,
    InvalidModel,
    UnsupportedModel,
    ModelTooLarge,
    UnsupportedOperator,
    /// Only used in a build without tract.
    #[cfg_attr(feature = "tract", expect(dead_code))]
    NeedsTract,
    InvalidOption,
    Inference,
    /// This variant and those below are only used for pictures of a web page.
    NotLoaded,
    #[cfg_attr(not(all(feature = "web", target_family = "wasm")), expect(dead_code))]
    Network,
    #[cfg_attr(not(all(feature = "web", target_family = "wasm")), expect(dead_code))]
    Tainted,
    #[cfg_attr(not(all(feature = "web", target_family = "wasm")), expect(dead_code))]
    Unsupported,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), source: None }
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// Adds `what` to the message.
    #[cfg(feature = "tract")]
    pub(crate) fn with_hint(mut self, hint: &str) -> Error {
        self.message = format!("{} ({hint})", self.message);
        self
    }

    /// A stable name for the kind of error, in kebab case:
    ///
    /// | code | meaning |
    /// |---|---|
    /// | `invalid-image` | no pixels, or a buffer that is not `width * height * channels` bytes long |
    /// | `image-too-large` | a side above [`MAX_SIDE_PX`](crate::MAX_SIDE_PX); with the feature `web`, also a canvas that the browser cannot hold, or too little memory for the pixels |
    /// | `invalid-model` | the bytes are not an intact ONNX file |
    /// | `unsupported-model` | intact ONNX, but not a detector that this crate can run: inputs, outputs or shapes are not those of the [model contract](crate::Model) |
    /// | `model-too-large` | the model needs more memory, nodes or work than its [limits](crate::Limits) allow; the message says how much |
    /// | `unsupported-operator` | the graph uses an operator the runtime does not have; the message names it |
    /// | `needs-tract` | the engine does not support the whole graph, and this crate was built without `tract` |
    /// | `invalid-option` | a threshold that is not in 0 to 1, an unknown class, 0 threads, an input size that is not a multiple of 32 |
    /// | `inference-failed` | the network did not run to its end, or gave scores that are NaN or above 1, or boxes that are NaN |
    ///
    /// With the feature `web`, for pictures of a page:
    ///
    /// | code | meaning |
    /// |---|---|
    /// | `not-loaded` | the element has no picture yet: wait for `load`, `loadeddata` or `seeked`, or call again for the next frame |
    /// | `network` | the rest of a video could not be fetched |
    /// | `tainted` | the picture came from another site without CORS, so the browser hides its pixels |
    /// | `unsupported` | the platform has no canvas, or the browser returns noise instead of pixels |
    pub fn code(&self) -> &'static str {
        match self.kind {
            Kind::InvalidImage => "invalid-image",
            Kind::ImageTooLarge => "image-too-large",
            Kind::InvalidModel => "invalid-model",
            Kind::UnsupportedModel => "unsupported-model",
            Kind::ModelTooLarge => "model-too-large",
            Kind::UnsupportedOperator => "unsupported-operator",
            Kind::NeedsTract => "needs-tract",
            Kind::InvalidOption => "invalid-option",
            Kind::Inference => "inference-failed",
            Kind::NotLoaded => "not-loaded",
            Kind::Network => "network",
            Kind::Tainted => "tainted",
            Kind::Unsupported => "unsupported",
        }
    }

    /// Whether the image was refused: it is empty or too large, its buffer has the wrong length, or the browser hides
    /// its pixels.
    pub fn is_image(&self) -> bool {
        matches!(self.kind, Kind::InvalidImage | Kind::ImageTooLarge | Kind::Tainted)
    }

    /// Whether an element of a web page has no picture yet. The same call may succeed later.
    pub fn is_not_loaded(&self) -> bool {
        self.kind == Kind::NotLoaded
    }

    /// Whether the model was refused: it is damaged, of another form or too large, or has an unsupported operator.
    pub fn is_model(&self) -> bool {
        matches!(
            self.kind,
            Kind::InvalidModel
                | Kind::UnsupportedModel
                | Kind::ModelTooLarge
                | Kind::UnsupportedOperator
                | Kind::NeedsTract
        )
    }

    /// Whether the model is intact but uses an operator that is not supported.
    pub fn is_unsupported_operator(&self) -> bool {
        self.kind == Kind::UnsupportedOperator
    }

    /// Whether an option was refused, such as a threshold, a class or an input size.
    pub fn is_option(&self) -> bool {
        self.kind == Kind::InvalidOption
    }

    /// Whether a loaded network failed while running.
    pub fn is_inference(&self) -> bool {
        self.kind == Kind::Inference
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_code_message_and_every_cause() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::new(Kind::InvalidModel, "the model did not load").with_source(cause);
        assert_eq!(error.to_string(), "the model did not load");
        assert_eq!(format!("{error:?}"), "invalid-model: the model did not load: disk on fire");
    }

    #[test]
    fn errors_travel_between_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
    }
}
