//! The overlay as text. The links are those of `configs/one_host.json`, which the demo runs with.

use crate::routing::NodeId;

const OVERLAY: &str = "\
A ──── B ──── C
│      │
│      │
E ──── D
│
F
";

/// Stands for a node that is dead.
pub const DEAD: &str = "✗";

/// The nodes and their links. A dead one is crossed out.
pub fn overlay(dead: Option<&NodeId>) -> String {
    match dead {
        Some(node) => OVERLAY.replace(node.as_str(), DEAD),
        None => OVERLAY.to_owned(),
    }
}

/// Two blocks of text side by side.
pub fn beside(left: &str, right: &str) -> String {
    const GAP: usize = 4;
    let width = left.lines().map(|line| line.chars().count()).max().unwrap_or(0) + GAP;
    let (mut left, mut right) = (left.lines(), right.lines());
    let mut text = String::new();
    loop {
        let (one, other) = (left.next(), right.next());
        if one.is_none() && other.is_none() {
            return text;
        }
        let one = one.unwrap_or_default();
        let gap = " ".repeat(width - one.chars().count());
        text.push_str(format!("{one}{gap}{}", other.unwrap_or_default()).trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stand_side_by_side() {
        assert_eq!(beside("a\nbbb\n", "x\ny\nz\n"), "a      x\nbbb    y\n       z\n");
        assert_eq!(beside("a\nb\n", "x\n"), "a    x\nb\n");
    }

    #[test]
    fn the_picture_is_that_of_the_shipped_configuration() {
        for id in ["A", "B", "C", "D", "E", "F"] {
            assert_eq!(OVERLAY.matches(id).count(), 1, "{id}");
        }
        assert!(overlay(Some(&NodeId::from("F"))).ends_with("│\n✗\n"));
    }
}
