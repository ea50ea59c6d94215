//! The classic query under every combination of strategies and encodings: always the same rows.

use super::{CLASSIC, classic, real};
use crate::csv_text::{answer, assert_same};

#[test]
#[ignore = "needs the real data set in datasets/2020-fire"]
fn every_combination_of_strategies_gives_the_same_rows() {
    let real = real();
    let place = real.place("one_host.json");
    for forwarding in ["round_robin", "parallel"] {
        for asynchronous in ["false", "true"] {
            for chunking in ["fixed", "adaptive", "query_based"] {
                let up = place.up(&[
                    "--forwarding-strategy",
                    forwarding,
                    "--async-forwarding",
                    asynchronous,
                    "--chunking-strategy",
                    chunking,
                ]);
                for encoding in ["arrow_ipc", "packed", "json"] {
                    let what = format!("{forwarding}, async {asynchronous}, {chunking}, {encoding}");
                    let arguments = [&CLASSIC[..], &["--format", "csv", "--encoding", encoding]].concat();
                    let ended = place.run(&arguments);
                    ended.check(0, &["225,521 rows in"]);
                    println!("{what}: {:?}", ended.took);
                    assert_same(&answer(&ended.text()), classic(), &what);
                }
                let figures = place.check(&["metrics"], 0, &[]);
                for name in [forwarding, asynchronous, chunking] {
                    assert!(figures.contains(name), "{name} was chosen: {figures}");
                }
                up.terminate().check(0, &[]);
            }
        }
    }
}
