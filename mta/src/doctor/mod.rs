//! Whether a host is well: facts are gathered, findings come of them, and each
//! that is bad says how to mend it.
//!
//! | module | answers |
//! | --- | --- |
//! | [`judge`] | what is found in facts; pure functions |
//! | [`gather`] | the facts of this machine |
//! | [`storage`] | whether what is synced is kept, as this machine says |
//! | [`records`] | what the DNS should say of a domain |
//! | [`ask`] | what it says |
//! | [`autoconfig`] | what mail programs of users should be told |

use serde::Serialize;

pub mod ask;
pub mod autoconfig;
pub mod gather;
pub mod judge;
pub mod records;
pub mod storage;

/// How bad something is; as a number, the exit code that Nagios expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// Somebody should look.
    Warning,
    /// Mail is lost or refused, or soon will be.
    Critical,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is the case.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// That all is well.
    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            text: text.into(),
            mend: None,
        }
    }

    /// That something is not.
    pub fn bad(
        check: &'static str,
        level: Level,
        text: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            check,
            level,
            text: text.into(),
            mend: Some(mend.into()),
        }
    }
}
