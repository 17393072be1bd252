//! How bmf prints a score: its report and its header fields.

use std::io::{self, Write};

use super::{Params, Score};

impl Score {
    /// Whether the message is spam.
    pub fn is_spam(&self, params: &Params) -> bool {
        self.hits > params.spam_cutoff
    }

    /// The report of `-t`: the score, then the tokens that decided.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write_report(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "# Spamicity: {:.6}", self.hits)?;
        for evidence in &self.evidence {
            out.write_all(b"# '")?;
            out.write_all(evidence.token.as_bytes())?;
            writeln!(out, "' -> {:.6}", evidence.spamicity)?;
        }
        Ok(())
    }

    /// The header fields of `-p`, each line ended by LF.
    pub fn header_fields(&self, params: &Params) -> String {
        let (hits, required) = (self.hits, params.spam_cutoff);
        if self.is_spam(params) {
            format!(
                "X-Spam-Status: Yes, hits={hits:.6} required={required:.6}, tests=bmf\n\
                 X-Spam-Flag: YES\n"
            )
        } else {
            format!("X-Spam-Status: No, hits={hits:.6} required={required:.6}\n")
        }
    }
}
