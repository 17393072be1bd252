//! The mail host: SMTP in and out, accounts, queue, delivery with the filter
//! inline, and the program `postern` around them.
//!
//! The way of a message: [`server`] drives a [`smtp`] session, asks the
//! [`handover::Host`] whether each recipient may be written to, collects the
//! [`message::Message`], and hands both over; what it then answers is a
//! promise, or a reason.

pub mod accounts;
pub mod authentication;
pub mod cli;
pub mod config;
pub mod confinement;
pub mod delivery;
pub mod doctor;
mod error;
pub mod gate;
pub mod handover;
pub mod import;
pub mod journal;
pub mod message;
pub mod models;
pub mod pipeline;
mod printable;
pub mod publish;
pub mod queue;
pub mod remote;
pub mod replay;
pub mod server;
pub mod smtp;
mod whole;

pub use error::Error;
