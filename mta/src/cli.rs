//! `postern` as functions of its arguments.

pub mod accounts;
pub mod alias;
pub mod domain;
pub mod preline;
pub mod queue;
pub mod user;
pub mod why;
