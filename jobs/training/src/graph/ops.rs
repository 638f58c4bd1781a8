//! The operations behind the layers, one file per idea; each has a constructor that checks shapes and settings.
//!
//! Rows are shared among threads in parts of neighbouring rows ([`parts`]); what parts give to one parameter is added in the
//! order of the parts.

mod attention;
mod batch_norm;
mod conv;
mod gru;
mod join;
mod lstm;
mod norm;
mod parts;
mod permute;
mod pool;
mod position;
mod recurrent;
mod reduce;
mod shapes;
mod windows;

pub use attention::attention;
pub use batch_norm::batch_norm;
pub use conv::{conv1d, conv2d};
pub use gru::gru;
pub use join::{add, concat};
pub use lstm::lstm;
pub use norm::{layer_norm, rms_norm};
pub use permute::permute;
pub use pool::{average_pool, global_average_pool, global_max_pool, max_pool};
pub use position::position;
pub use windows::Axis;

#[cfg(test)]
mod tests;
