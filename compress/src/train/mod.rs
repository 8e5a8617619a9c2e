//! Trains a network with libtorch.
//!
//! The folder of a run contains `config.json`, `log.jsonl` (one line every [`TrainConfig::log_every`] batches),
//! `state.safetensors` to continue from, and `model.safetensors`, the averaged weights in half precision with their
//! network. The same command continues an interrupted run.

mod anchors;
pub mod assign;
mod config;
mod correct;
mod criterion;
mod depthwise;
mod distill;
mod log;
mod loss;
mod model;
mod optimizer;
mod parts;
mod precision;
mod replay;
mod run;
mod state;
mod teacher;
mod tensor;
mod worker;

pub use config::{Distillation, TrainConfig};
pub use distill::Stage;
pub use model::{Layout, Predictions, Replica, initial};
pub use parts::PartLearner;
pub use precision::Precision;
pub use run::{Summary, check, train};
