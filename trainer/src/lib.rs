//! Learning from folders: what a user's moves teach, and which messages make
//! room for others.
//!
//! | module | answers |
//! | --- | --- |
//! | [`decision`] | what to learn from where a message was and is, and where to move it |
//! | [`rotation`] | which messages of a folder go when a quota is reached |
//!
//! Both decide by pure functions over plain data; what was decided is then
//! carried out. Knows nothing of SMTP.

pub mod decision;
pub mod rotation;
