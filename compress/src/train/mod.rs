//! Trains a network with libtorch.
//!
//! The folder of a run contains `config.json`, `log.jsonl` (one line every [`TrainConfig::log_every`] batches),
//! `state.safetensors` to continue from, and `model.safetensors`, the averaged weights in half precision with their
//! network. The same command continues an interrupted run.

mod anchors;
pub mod assign;
mod criterion;
mod depthwise;
mod distill;
mod loss;
mod model;
mod optimizer;
mod parts;
mod replay;
mod run;
mod teacher;
mod tensor;

pub use distill::Stage;
pub use model::{Layout, Predictions, Replica, initial};
pub use parts::PartLearner;
pub use run::{Distillation, Precision, Summary, TrainConfig, check, train};
