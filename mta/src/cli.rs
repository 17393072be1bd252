//! `postern` as functions of its arguments.

pub mod accounts;
pub mod alias;
pub mod domain;
pub mod user;
