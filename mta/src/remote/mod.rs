//! The way out: mail for other hosts.

use std::future::Future;
use std::pin::Pin;

use crate::queue::{Entry, Recipient};
use crate::smtp::{Domain, Reply};

/// Mail for recipients of one domain.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// Where it goes.
    pub domain: &'a Domain,
    /// Its envelope, with recipients that are none of this parcel's.
    pub entry: &'a Entry,
    /// Those that are.
    pub recipients: &'a [&'a Recipient],
    /// The message, with LF line ends.
    pub message: &'a [u8],
}

/// For each recipient of a parcel: who has it now, or what was answered.
pub type Results = Vec<Result<String, Reply>>;

/// Whoever brings mail to other hosts.
pub trait WayOut: Send + Sync + 'static {
    /// Delivers a parcel; one result for each of its recipients, in order.
    fn deliver<'a>(
        &'a self,
        parcel: Parcel<'a>,
    ) -> Pin<Box<dyn Future<Output = Results> + Send + 'a>>;
}
