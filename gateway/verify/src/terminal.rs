//! What goes to a terminal. Much of it was written by whoever made the bundle, and may not end a line, move the
//! cursor, or turn the direction of writing.

use serde_json::Value;

/// Longest part of a text that nobody but the bundle's maker stands for.
pub(crate) const CLAIM_CHARS_MAX: usize = 100;

/// The text as one line: what does not show as itself is escaped.
pub(crate) fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '"' | '\'' | '\\' => line.push(one),
            other => line.extend(other.escape_debug()),
        }
    }
    line
}

/// The beginning of a text, as it is shown where it could fill the screen.
pub(crate) fn claim(text: &str) -> String {
    let cut: String = text.chars().take(CLAIM_CHARS_MAX).collect();
    match cut.len() == text.len() {
        true => cut,
        false => cut + "...",
    }
}

pub(crate) fn line(text: &str) {
    println!("{}", shown(text));
}

/// JSON in ASCII alone.
pub(crate) fn ascii(json: &Value) -> String {
    let mut text = String::new();
    for one in json.to_string().chars() {
        match one {
            ' '..='~' => text.push(one),
            other => {
                let mut units = [0; 2];
                let units = other.encode_utf16(&mut units).iter();
                units.for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
            }
        }
    }
    text
}

/// One line of the verdict.
macro_rules! say {
    ($($part:tt)*) => { $crate::terminal::line(&format!($($part)*)) };
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        let check = |text: &str, expect: &str| assert_eq!(shown(text), expect);
        check("log \"a\\b\" 'c' 存证", "log \"a\\b\" 'c' 存证");
        check("a\nholds\r\u{1b}[8m\u{9b}K", "a\\nholds\\r\\u{1b}[8m\\u{9b}K");
        check("\u{202e}sdloh\u{7f}\u{2028}", "\\u{202e}sdloh\\u{7f}\\u{2028}");
    }

    #[test]
    fn claims_are_cut_at_the_limit() {
        let longest = "存".repeat(CLAIM_CHARS_MAX);
        assert_eq!(claim(&longest), longest);
        assert_eq!(claim(&format!("{longest}x")), format!("{longest}..."));
    }

    #[test]
    fn json_stays_what_it_is() {
        let value = serde_json::json!({"a\n": "存\u{9b}\u{1f600}\u{7f}"});
        let text = ascii(&value);
        assert_eq!(text, "{\"a\\n\":\"\\u5b58\\u009b\\ud83d\\ude00\\u007f\"}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
