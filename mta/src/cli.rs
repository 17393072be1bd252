//! `postern` as functions of its arguments.
