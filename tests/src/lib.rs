//! Helpers for end-to-end tests: where the built programs and their peers are.
