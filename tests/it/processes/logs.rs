//! Logs of nodes that run, that ended and that never were.

use std::fs;

use rustix::process::Signal;

use crate::program::{Place, eventually};

#[test]
fn the_end_of_a_log_is_shown_and_followed() {
    let place = Place::with_data("five_process.json");
    let up = place.up(&[]);
    let shown = place.check(&["logs", "C"], 0, &[]);
    assert!(shown.contains("serving") && shown.contains("ready"), "{shown}");
    assert_eq!(place.check(&["logs", "C", "--lines", "1"], 0, &[]).lines().count(), 1);
    assert_eq!(place.check(&["logs", "C", "--lines", "0"], 0, &[]), "");
    for (id, hint) in [("c", "did you mean C?"), ("X", "A, B, C, D, E")] {
        place.check(&["logs", id], 2, &["there is no process", hint]);
    }
    place.check(&["logs", "C", "--lines", "10001"], 2, &["10001"]);

    let interrupted = place.start(&["logs", "C", "-f"]);
    eventually("the past is shown", || interrupted.text().contains("serving").then_some(()));
    interrupted.signal(Signal::INT);
    interrupted.end().check(130, &[]);

    let followed = place.start(&["logs", "E", "--follow", "--lines", "1"]);
    let killed = place.start(&["logs", "D", "--follow"]);
    eventually("both are shown", || (!followed.text().is_empty() && !killed.text().is_empty()).then_some(()));
    place.kill("D");
    killed.end().check(4, &["went away", "overlay logs D"]);
    assert_eq!(place.check(&["down", "--only", "E"], 0, &[]), "E ended\n");
    let ended = followed.end();
    ended.check(0, &["E ended"]);
    assert!(ended.text().contains("draining"), "what it wrote while it was followed: {ended}");
    up.terminate().check(1, &[]);
}

#[test]
fn a_node_that_does_not_run_has_left_its_file() {
    let place = Place::new("one_host.json");
    place.check(&["logs", "B"], 4, &["B does not run, and there is no logs/B.log", "overlay up --only B"]);
    fs::create_dir(place.path("logs")).unwrap();
    fs::write(place.path("logs/B.log"), "one\n\x1b[2Jtwo\n\u{202e}three\nfour").unwrap();
    let said = "B does not run; this is what it wrote last to logs/B.log";
    let shown = place.check(&["logs", "B", "-n", "3"], 0, &[said]);
    assert_eq!(shown, "\\u{1b}[2Jtwo\n\\u{202e}three\nfour\n");
    place.check(&["logs", "B", "-f"], 0, &[said]);
}

#[test]
fn a_log_that_goes_to_stderr_cannot_be_asked_for() {
    let place = Place::with_data("embedded.json");
    let node = place.start(&["node", "--id", "A", "--log-to-stderr"]);
    place.check_ready();
    place.check(&["logs", "A"], 1, &["A writes no log file: its log goes to stderr"]);
    node.terminate().check(0, &["ready"]);
}
