//! The header fields that tell a verdict, as `bmf -p` and the mail host write
//! them.

use super::Class;

/// As bmf's fields, so that recipes keep their meaning; whole lines. Unsure
/// has a field of its own beside `No`. `required` is the probability above
/// which a message is spam.
pub fn header_fields(class: Class, probability: f64, required: f64) -> String {
    let numbers = format!("hits={probability:.6} required={required:.6}");
    match class {
        Class::Spam => format!("X-Spam-Status: Yes, {numbers}, tests=bmf\nX-Spam-Flag: YES\n"),
        Class::Unsure => format!("X-Spam-Status: No, {numbers}\nX-Spam-Unsure: YES\n"),
        Class::Ham => format!("X-Spam-Status: No, {numbers}\n"),
    }
}
