//! Words of others, made fit for a line of ours and for a terminal.

/// With spaces for tabs, and `?` for what ends a line or moves the cursor of a
/// terminal.
pub(crate) fn printable(text: &str) -> String {
    let replaced = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(replaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_line_or_reaches_a_terminal() {
        assert_eq!(printable("a\tb\r\nc"), "a b??c");
        assert_eq!(printable("\u{1b}[2J\u{7f}\u{9b}31m é"), "?[2J??31m é");
    }
}
