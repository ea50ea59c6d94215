//! Damaged configurations: `config check` and `node` end with 2 and say where, or the damage does not matter.

use std::fs;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{mutated, seeded};
use crate::program::{Ended, Place, project};

const SHIPPED: [&str; 4] = ["one_host.json", "two_hosts.json", "five_process.json", "embedded.json"];
const DAMAGED: usize = 200;
/// Processes at once.
const WIDTH: usize = 4;

/// The file with one to three of its values replaced, removed, doubled or renamed.
fn changed(random: &mut Rng, text: &str) -> Vec<u8> {
    let mut config: Value = serde_json::from_str(text).expect("a shipped configuration");
    for _ in 0..random.usize(1..=3) {
        change(random, &mut config);
    }
    serde_json::to_vec_pretty(&config).expect("JSON")
}

fn change(random: &mut Rng, value: &mut Value) {
    let goes_on = random.u8(0..5) > 0;
    match value {
        Value::Object(map) if !map.is_empty() && goes_on => {
            let at = random.usize(..map.len());
            let key = map.keys().nth(at).expect("it is in range").clone();
            match random.u8(0..8) {
                0 => drop(map.remove(&key)),
                1 => {
                    let value = map.remove(&key).expect("it is there");
                    map.insert(format!("{key}{}", random.alphabetic()), value);
                }
                2 => drop(map.insert(strange_text(random), map[&key].clone())),
                _ => change(random, &mut map[&key]),
            }
        }
        Value::Array(list) if !list.is_empty() && goes_on => {
            let at = random.usize(..list.len());
            change(random, &mut list[at]);
        }
        _ => *value = strange_value(random),
    }
}

fn strange_text(random: &mut Rng) -> String {
    let texts =
        ["", " ", "\0", "..", "../../etc/passwd", "A", "NaN", "-1", "512PiB", "20201399", "２", "a:b", "\u{202e}x"];
    match random.usize(0..=texts.len()) {
        at if at < texts.len() => texts[at].to_owned(),
        _ => "x".repeat(100_000),
    }
}

fn strange_value(random: &mut Rng) -> Value {
    match random.u8(0..12) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!(1e308),
        4 => json!(0),
        5 => json!(0.5),
        6 => json!([]),
        7 => json!({}),
        8 => json!([[[[[[]]]]]]),
        9 => json!(random.bool()),
        10 => json!({ "": { "": [null] } }),
        _ => json!(strange_text(random)),
    }
}

/// Fails unless it ended with 0, or with 2 and a place in the file. Whether it was refused.
#[track_caller]
fn check(ended: &Ended, file: &str) -> bool {
    assert!(!ended.stderr.contains("panicked at"), "{ended}");
    match ended.code {
        Some(0) => false,
        Some(2) => {
            let place = ended.stderr.lines().any(|line| {
                let Some((_, after)) = line.split_once(&format!("{file}:")) else { return line.starts_with("  ") };
                after.starts_with(|first: char| first.is_ascii_digit())
                    || after.contains(':')
                    || after.contains("problem")
            });
            assert!(place, "it does not say where: {ended}");
            true
        }
        _ => panic!("{ended}"),
    }
}

#[test]
fn damaged_configurations_are_refused_by_their_place() {
    let mut random = seeded();
    let place = Place::new("one_host.json");
    let files: Vec<String> = (0..DAMAGED).map(|n| format!("damaged-{n}.json")).collect();
    for (n, file) in files.iter().enumerate() {
        let text = fs::read_to_string(project().join("configs").join(SHIPPED[n % SHIPPED.len()])).expect("shipped");
        let bytes = match n % 3 {
            0 => mutated(&mut random, text.as_bytes()),
            _ => changed(&mut random, &text),
        };
        fs::write(place.path(file), bytes).expect("written");
    }
    let refused: usize = std::thread::scope(|scope| {
        let check_some = |files: &[String]| {
            let refuses = |file: &&String| {
                let refused = check(&place.run(&["config", "check", file]), file);
                // What the check refuses no node starts with.
                if refused && file.ends_with("0.json") {
                    let node = place.run(&["--config", file, "node", "--id", "A"]);
                    assert!(check(&node, file), "{node}");
                }
                refused
            };
            files.iter().filter(refuses).count()
        };
        let parts: Vec<_> =
            files.chunks(DAMAGED.div_ceil(WIDTH)).map(|part| scope.spawn(move || check_some(part))).collect();
        parts.into_iter().map(|part| part.join().expect("checked")).sum()
    });
    // Some damage does not matter: a space, another number. Most does.
    assert!(refused > DAMAGED / 2, "{refused} of {DAMAGED} were refused");
    println!("{refused} of {DAMAGED} were refused");
}

#[test]
fn whole_files_that_are_none_are_refused() {
    let place = Place::new("one_host.json");
    let deep = "[".repeat(200_000);
    let long_key = format!("{{\"{}\": 1}}", "k".repeat(1 << 20));
    let wide = format!("[{}1]", "1,".repeat(1 << 20));
    let files: [(&str, &[u8]); 10] = [
        ("empty.json", b""),
        ("null.json", b"null"),
        ("list.json", b"[]"),
        ("object.json", b"{}"),
        ("zeros.json", &[0; 1000]),
        ("latin.json", b"{ \"dataset\": \"\xe9\" }"),
        ("deep.json", deep.as_bytes()),
        ("wide.json", wide.as_bytes()),
        ("long.json", long_key.as_bytes()),
        ("large.json", &vec![b' '; 64 << 20]),
    ];
    for (file, bytes) in files {
        fs::write(place.path(file), bytes).expect("written");
        for command in [&["config", "check"][..], &["node", "--id", "A"], &["query"]] {
            let ended = place.run(&[&["--config", file][..], command].concat());
            assert_eq!(ended.code, Some(2), "{ended}");
            assert!(ended.stderr.contains(file) && !ended.stderr.contains("panicked"), "{ended}");
            assert!(ended.stderr.len() < 10_000, "a reason, not the file again: {} bytes", ended.stderr.len());
        }
    }
}
