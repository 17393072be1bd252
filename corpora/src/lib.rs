//! Labelled mail collections: reading them, making synthetic ones, and
//! measuring filters over them in the way of the TREC spam track.

mod error;
pub mod generate;
mod message;
mod random;

pub use error::Error;
pub use message::{Message, label_name};
pub use random::Random;
