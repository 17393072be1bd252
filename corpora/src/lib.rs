//! Labelled mail collections: reading them, making synthetic ones, and
//! measuring filters over them in the way of the TREC spam track.
//!
//! A [`Collection`] comes from [`read`] or [`generate`]; a
//! [`filter::FilterSpec`] names one of our engines or somebody else's program;
//! [`protocol`] says in what order it meets the messages and what it is told;
//! [`measure`] turns its answers into figures with intervals; [`report`] prints
//! them. [`experiment`] does this for several filters at once; [`attack`] asks
//! how they stand against a sender who knows them, [`languages`] how they begin
//! in each language, [`drift`] how they do when the mail changes. [`cli`] is the
//! program `bmfeval`.
//!
//! Deliberately absent: tuning of a filter to a collection, and any figure
//! pooled over collections.
//!
//! ```
//! use corpora::Collection;
//! use corpora::experiment::Experiment;
//! use corpora::filter::FilterSpec;
//! use corpora::generate::{Generator, Options};
//! use corpora::protocol::{Feedback, Protocol};
//!
//! let collection = Collection::new(
//!     "made up".to_owned(),
//!     Generator::new(&Options {
//!         seed: 1,
//!         n_messages: 200,
//!         ..Options::default()
//!     }).collect(),
//! );
//! let work = tempfile::tempdir().expect("a folder for databases");
//! let reports = Experiment {
//!     collections: &[collection],
//!     filters: &[FilterSpec::Classic],
//!     shuffles: &[None],
//!     protocol: Protocol::online(1, Feedback::Immediate),
//!     results: None,
//! }
//! .run(work.path(), &|| {})?;
//! let measures = &reports[0].outcomes[0].measures;
//! assert_eq!(measures.n_ham + measures.n_spam, 200);
//! # Ok::<(), corpora::Error>(())
//! ```

pub mod attack;
pub mod cli;
pub mod drift;
mod error;
pub mod experiment;
pub mod fetch;
pub mod filter;
pub mod generate;
pub mod languages;
mod leftovers;
pub mod measure;
mod message;
pub mod protocol;
mod random;
pub mod read;
pub mod report;
pub mod results;

pub use error::Error;
pub use message::{Collection, Message, Role};
pub use random::Random;
