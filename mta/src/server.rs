//! Sockets, TLS and time around the sessions of [`crate::smtp`].
