//! How mail lies on disk: Maildir and Maildir++, read, delivered, moved and
//! counted so that no user can lead a program with more rights astray.
//!
//! Deliberately absent: a cache or an index of what lies in a folder, locks
//! (Maildir needs none), a clock (time is a parameter), and any knowledge of
//! classification, networks or accounts.
//!
//! ```
//! use std::io::Read;
//! use std::time::SystemTime;
//! use mailbox::{FolderName, Layout, Mailbox, UniqueNames};
//!
//! # let home = tempfile::tempdir()?;
//! # std::fs::create_dir(home.path().join("Maildir"))?;
//! let mailbox = Mailbox::open(home.path(), "Maildir".as_ref(), Layout::MaildirPlusPlus)?;
//! let junk = mailbox.create_folder(&FolderName::parse("Junk", Layout::MaildirPlusPlus)?)?;
//! let names = UniqueNames::new("mail.example.org");
//! let mail = b"Subject: Cheap watches\n\nBuy watches now\n";
//! let entry = junk.deliver(&names, SystemTime::now(), &mut mail.as_slice())?;
//!
//! let mut text = Vec::new();
//! junk.open_message(&entry)?.expect("nobody moved it").read_to_end(&mut text)?;
//! assert_eq!(text, mail);
//!
//! let inbox = mailbox.create_folder(&FolderName::inbox())?;
//! assert!(junk.move_to(&entry, &inbox)?);
//! assert_eq!(junk.entries()?.count(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod deliver;
mod error;
mod folder;
mod folder_name;
mod mailbox;
mod name;
mod new_file;
mod quota;
mod sys;
#[cfg(test)]
mod testing;
mod transfer;
mod unique;
mod utf7;

pub use crate::mailbox::{Directories, Directory, Mailbox, open_deepest};
pub use error::{Error, Foreign};
pub use folder::{Details, Entries, Entry, Folder, Half, Mark};
pub use folder_name::{FolderName, Layout};
pub use name::{Flags, MessageName};
pub use quota::{Quota, State, Usage};
pub use unique::UniqueNames;
