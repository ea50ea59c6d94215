//! Arguments that make no sense: exit 2, nothing on stdout, nothing asked or started.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

use fastrand::Rng;

use super::seeded;
use crate::program::Place;

/// Every command, with what it cannot do without.
const COMMANDS: [&[&str]; 9] = [
    &["node", "--id", "A"],
    &["up"],
    &["down"],
    &["status"],
    &["query"],
    &["sql", "SELECT 1"],
    &["metrics"],
    &["partitions"],
    &["config", "check"],
];

/// Options that take a value, the commands that have them, and values that they cannot take.
const VALUES: &[(&str, &[&str], &[&str])] = &[
    ("--leader", &["status", "query"], &["nowhere", "host:", ":1", "host:99999", "host:-1", "a b:1", "", "host:1:2x"]),
    (
        "--from",
        &["query"],
        &["", "20201301", "2020-08-10", "00000000", "-1", "２０２００８１０", "99999999999999999999"],
    ),
    ("--to", &["query"], &["x", "20200230"]),
    (
        "--bbox",
        &["query"],
        &["", "1", "1,2,3,4,5", "NaN,0,1,1", "inf,0,1,1", "91,0,92,1", "0,0,-1,1", ",,,", "1;2;3;4"],
    ),
    ("--limit", &["query", "sql"], &["", "-1", "1.5", "18446744073709551616", "many"]),
    ("--timeout", &["query", "sql"], &["", "0", "-1", "NaN", "inf", "1e300", "soon"]),
    ("--format", &["query", "sql", "status", "metrics", "partitions"], &["", "xml", "CSV ", "\u{202e}"]),
    ("--encoding", &["query", "sql"], &["", "bson"]),
    ("--wait", &["status"], &["", "soon", "NaN", "-1", "inf", "1e300"]),
    ("--only", &["up", "down"], &["", "Z", "A,,B", "A;B", "a"]),
    ("--id", &["node"], &["", "Z", "a", "A ", "../A"]),
    ("--chunk-size", &["node", "up"], &["0", "-1", "4294967296", "many"]),
    ("--result-ttl", &["node", "up"], &["-1", "1.5", "18446744073709551616"]),
    ("--forwarding-strategy", &["node", "up"], &["", "fastest"]),
    ("--chunking-strategy", &["node", "up"], &["", "none"]),
    ("--fairness-strategy", &["node", "up"], &["", "unfair"]),
    ("--async-forwarding", &["node", "up"], &["maybe", "1"]),
];

#[track_caller]
fn check_refused(place: &Place, arguments: &[&str]) {
    let ended = place.run(arguments);
    assert!(!ended.stderr.contains("panicked at"), "{ended}");
    assert_eq!(ended.code, Some(2), "{ended}");
    assert!(ended.stdout.is_empty() && ended.stderr.contains("error: "), "{ended}");
}

#[test]
fn every_command_refuses_what_it_does_not_know() {
    let place = Place::new("one_host.json");
    for command in COMMANDS {
        for wrong in [&["--nonsense"][..], &["-Z"], &["--config"], &["--leader"], &["--", "a", "b", "c", "d", "e"]] {
            check_refused(&place, &[command, wrong].concat());
        }
    }
    assert_eq!(place.running(), [""; 0]);
}

#[test]
fn every_option_refuses_values_that_it_cannot_take() {
    let place = Place::new("one_host.json");
    for (option, commands, values) in VALUES {
        for command in *commands {
            for value in *values {
                let command = COMMANDS.iter().find(|known| known[0] == *command).expect("a command");
                // An option given twice would be refused for that alone.
                let command: Vec<&str> = if *option == "--id" { vec!["node"] } else { command.to_vec() };
                check_refused(&place, &[&command[..], &[option, value]].concat());
                check_refused(&place, &[&command[..], &[&format!("{option}={value}")]].concat());
            }
        }
    }
    for bounds in [["x", "1"], ["1", "x"], ["NaN", "1"], ["1", "NaN"], ["2", "1"], ["", ""], ["１", "２"]] {
        check_refused(&place, &["query", "PM2.5", bounds[0], bounds[1]]);
    }
    assert_eq!(place.running(), [""; 0]);
}

/// One argument as nobody would type it.
fn strange(random: &mut Rng) -> OsString {
    const WORDS: [&str; 24] = [
        "query",
        "sql",
        "status",
        "metrics",
        "config",
        "check",
        "--format",
        "json",
        "--limit",
        "-1",
        "--as",
        "--from",
        "20200810",
        "--bbox",
        "--columns",
        ",",
        "--local",
        "-o",
        "",
        "-",
        "=",
        "--timeout",
        "0.001",
        "--wait",
    ];
    match random.u8(0..4) {
        // Whatever is not zero can stand in an argument.
        0 => OsString::from_vec((0..random.usize(0..30)).map(|_| random.u8(1..)).collect()),
        1 => OsString::from("9".repeat(random.usize(1..400))),
        _ => OsString::from(*random.choice(&WORDS).expect("some")),
    }
}

#[test]
fn random_arguments_end_and_never_panic() {
    let mut random = seeded();
    // Nothing listens here and there is no data: what is understood by chance fails soon.
    let place = Place::new("one_host.json");
    for _ in 0..100 {
        let first =
            *random.choice(&["query", "sql", "status", "metrics", "partitions", "config", "down"]).expect("some");
        let mut arguments = vec![OsString::from(first)];
        arguments.extend((0..random.usize(0..6)).map(|_| strange(&mut random)));
        let mut command = place.command(&[]);
        let ended = command.args(&arguments).stdin(Stdio::null()).output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let is_known = matches!(ended.status.code(), Some(0 | 1 | 2 | 4 | 124));
        assert!(is_known && !said.contains("panicked at"), "{arguments:?}: {:?}\n{said}", ended.status);
    }
    assert_eq!(place.running(), [""; 0]);
}
