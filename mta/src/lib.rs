//! The mail host: SMTP sessions, gate, queue, delivery pipeline, accounts.
