//! `overlay demo`, run as a newcomer does, in folders of its own, and broken off in every way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use overlay::config::Config;
use overlay::node::state_dir::is_locked;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::csv_text::{self, PARAMETER, UTC, concentration};
use crate::program::{Process, eventually};

/// A current folder and a folder for temporary ones, both empty.
struct Scene {
    current: TempDir,
    temporary: TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene { current: TempDir::new().unwrap(), temporary: TempDir::new().unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overlay"));
        command.args(arguments).current_dir(self.current.path()).env("TMPDIR", self.temporary.path());
        // Nobody's home, no configuration, and not started by cargo, which runs the tests.
        command.env_remove("HOME").env_remove("OVERLAY_CONFIG").env_remove("CARGO").stdin(Stdio::null());
        command
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let arguments = [&["demo"], arguments].concat();
        Process::start(&mut self.command(&arguments), arguments.join(" "))
    }

    /// The folders that demos made and did not remove.
    fn left(&self) -> Vec<PathBuf> {
        fs::read_dir(self.temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[track_caller]
    fn check_nothing_left(&self, shown: &str) {
        assert_eq!(self.left(), [""; 0].map(PathBuf::from), "{shown}");
        assert_eq!(fs::read_dir(self.current.path()).unwrap().count(), 0, "nothing is written where it was started");
        for (id, pid) in pids(shown) {
            assert!(test_kill_process(pid).is_err(), "{id} still runs: {shown}");
        }
    }
}

/// The nodes and process ids of the table of processes, as far as it was printed.
fn pids(shown: &str) -> Vec<(String, Pid)> {
    let table = shown.lines().skip_while(|line| !line.ends_with(" pid")).skip(1).take_while(|line| !line.is_empty());
    // The picture stands to the left; the last seven cells are the table's.
    let rows = table.map(|line| line.split_whitespace().rev().collect::<Vec<_>>()).filter(|cells| cells.len() >= 7);
    rows.map(|cells| (cells[6].to_owned(), Pid::from_raw(cells[0].parse().unwrap()).unwrap())).collect()
}

/// What stands behind a name, the first time it is said after a heading.
#[track_caller]
fn fact(shown: &str, heading: &str, name: &str) -> String {
    let act = shown.split_once(heading).unwrap_or_else(|| panic!("no {heading:?} in {shown}")).1;
    let start = format!("   {name} ");
    let mut lines = act.lines().skip_while(|line| !line.starts_with(&start));
    let first = lines.next().unwrap_or_else(|| panic!("no {name:?} after {heading:?} in {shown}"));
    let mut fact = first[start.len()..].trim().to_owned();
    // It goes on where lines hang below it.
    for line in lines.take_while(|line| line.starts_with(&" ".repeat(15))) {
        fact.push(' ');
        fact.push_str(line.trim());
    }
    fact
}

/// The first number of a text.
#[track_caller]
fn number(text: &str) -> usize {
    text.split_whitespace().next().unwrap().replace(',', "").parse().unwrap_or_else(|_| panic!("{text:?}"))
}

/// What every demo asks: the rows of the first day asked for and later ones, but those of some dates.
fn rows(data_set: &Path, from: &str, but: &[&str]) -> usize {
    let wanted = |row: &[String]| {
        let date = row[UTC][..10].replace('-', "");
        let value = concentration(row);
        row[PARAMETER] == "PM2.5"
            && value.is_some_and(|value| (5.0..=35.0).contains(&value))
            && date.as_str() >= from
            && !but.contains(&date.as_str())
    };
    csv_text::select(data_set, wanted).len()
}

#[test]
fn the_demo_says_what_the_files_say_and_can_be_gone_on_with() {
    let scene = Scene::new();
    let ended = scene.start(&["--keep"]).end();
    ended.check(0, &[]);
    let shown = ended.text();
    let [folder] = &scene.left()[..] else { panic!("one folder is kept: {shown}") };
    // From here on a failure of this test ends the six processes too.
    let kept = Kept { folder };
    assert_eq!(ended.stderr, "", "{shown}");
    assert!(!shown.contains('\x1b'), "no colour in a pipe");
    let wide = shown.lines().filter(|line| line.chars().count() > 80).collect::<Vec<_>>();
    // Only the paths of this test's folders are longer.
    assert!(wide.iter().all(|line| line.contains("overlay-demo-")), "{wide:?}");
    assert!(shown.lines().count() <= 130, "{} lines", shown.lines().count());

    let data_set = folder.join("demo");
    let from = shown.split_once("--from ").unwrap().1.split_whitespace().next().unwrap();
    let whole = rows(&data_set, from, &[]);
    assert!(whole > 1000, "{whole} rows are worth asking for");
    assert_eq!(number(&fact(&shown, "A range query", "answer")), whole);
    let chunks = fact(&shown, "A range query", "chunks");
    assert!(number(&chunks.replace(',', " ")) > 1, "{chunks}");
    for route in ["A → B ", "A → E ", "A → E → F "] {
        assert!(shown.contains(route), "{route}: {shown}");
    }

    // The victim's days are those it holds; the killed process is the one that was shown.
    let (before, gone) = shown.split_once(" is gone, and with it").unwrap();
    let victim = before.split_whitespace().last().unwrap();
    let gone = gone.split_once("$ overlay").unwrap().0.split_whitespace();
    let held: Vec<&str> = gone.filter(|word| word.len() == 8 && word.starts_with("2020")).collect();
    assert!(!held.is_empty(), "{shown}");
    let victim_pid = pids(&shown).into_iter().find(|(id, _)| id == victim).unwrap().1;
    assert!(shown.contains(&format!("$ kill -9 {}\n", victim_pid.as_raw_nonzero())), "{shown}");
    assert_eq!(fact(&shown, "A worker dies", "exit code"), "1");
    assert!(fact(&shown, "A worker dies", "rows.csv").starts_with("does not exist"));
    for act in ["A worker dies", "What there is"] {
        let said =
            shown.split_once(act).unwrap().1.split_once("-o rows.csv").unwrap().1.split_once("exit code").unwrap().0;
        let named: Vec<&str> =
            said.split_whitespace().filter(|word| word.len() == 8 && word.starts_with("2020")).collect();
        assert_eq!(named, held, "{said}");
    }
    assert_eq!(fact(&shown, "What there is", "exit code"), "3");
    assert_eq!(number(&fact(&shown, "What there is", "rows.csv")), rows(&data_set, from, &held));
    assert_eq!(number(&fact(&shown, "It comes back", "asked again")), whole);

    // What is printed at the end works as typed.
    let (_, going_on) = shown.split_once("It goes on").unwrap();
    let going_on = going_on.replace("\\\n", "");
    let overlay = env!("CARGO_BIN_EXE_overlay");
    let commands: Vec<&str> =
        going_on.lines().map(str::trim).filter(|line| line.starts_with(overlay) || line.starts_with("rm ")).collect();
    assert_eq!(commands.len(), 5, "{going_on}");
    let typed = |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(scene.current.path()).stdin(Stdio::null());
        let ended = Process::start(&mut shell, line.to_owned()).end();
        ended.check(0, &[]);
        ended.text()
    };
    assert_eq!(typed(commands[0]).lines().count(), 1 + 5);
    let total = csv_text::select(&data_set, |_| true).len();
    assert_eq!(typed(commands[1]).trim(), format!("readings\n{total}"));
    assert!(typed(commands[2]).contains("; complete"));
    assert_eq!(kept.running(), ["A", "B", "C", "D", "E", "F"]);
    let down = typed(commands[3]);
    assert_eq!(down.lines().filter(|line| line.ends_with(" ended")).count(), 6, "{down}");
    assert_eq!(kept.running(), [""; 0]);
    drop(kept);
    typed(commands[4]);
    assert_eq!(scene.left(), [""; 0].map(PathBuf::from));

    // The same seed again, to its end.
    let scene = Scene::new();
    let ended = scene.start(&[]).end();
    ended.check(0, &[]);
    let again = ended.text();
    assert_eq!(number(&fact(&again, "A range query", "answer")), whole);
    assert_eq!(fact(&again, "The end", "ended"), "A B C D E F; nothing is left behind");
    assert_eq!(pids(&again).len(), 6, "{again}");
    scene.check_nothing_left(&again);
}

/// A kept demo, ended at the latest when this is dropped.
struct Kept<'a> {
    folder: &'a Path,
}

impl Kept<'_> {
    fn running(&self) -> Vec<String> {
        let config = Config::load(&self.folder.join("overlay.json")).unwrap();
        let fingerprint = overlay::node::fingerprint(&config).to_string();
        let ids = config.processes.keys().filter(|id| is_locked(&config.state_dir, &fingerprint, id));
        ids.map(|id| id.to_string()).collect()
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let mut down = Command::new(env!("CARGO_BIN_EXE_overlay"));
        let _ = down.args(["down", "--config"]).arg(self.folder.join("overlay.json")).output();
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    for (moment, signal) in [
        ("overlay demo: ", Signal::INT),
        ("Six processes", Signal::TERM),
        ("A worker dies", Signal::INT),
        ("It comes back", Signal::HUP),
    ] {
        let scene = Scene::new();
        let demo = scene.start(&["--days", "8", "--keep"]);
        eventually(moment, || (demo.text().contains(moment) || demo.has_ended()).then_some(()));
        demo.signal(signal);
        let ended = demo.end();
        ended.check(130, &["error: interrupted"]);
        scene.check_nothing_left(&ended.text());
    }
}

#[test]
fn the_nodes_of_a_killed_demo_end_by_themselves() {
    let scene = Scene::new();
    let demo = scene.start(&["--days", "8"]);
    eventually("six processes", || (pids(&demo.text()).len() == 6 || demo.has_ended()).then_some(()));
    demo.signal(Signal::KILL);
    demo.end();
    // The folder stays: there was nobody to remove it.
    let [folder] = &scene.left()[..] else { panic!("{:?}", scene.left()) };
    let left = Kept { folder };
    eventually("their end", || left.running().is_empty().then_some(()));
}

#[test]
fn a_demo_whose_node_dies_says_so_and_leaves_nothing() {
    let scene = Scene::new();
    let demo = scene.start(&[]);
    let d = eventually("the table of processes", || {
        let rows = pids(&demo.text());
        assert!(!demo.has_ended(), "{}", demo.text());
        (rows.len() == 6).then(|| rows[3].clone())
    });
    assert_eq!(d.0, "D");
    kill_process(d.1, Signal::KILL).unwrap();
    let ended = demo.end();
    ended.check(1, &["D ended by itself"]);
    scene.check_nothing_left(&ended.text());
}

#[test]
fn a_demo_that_nobody_reads_or_that_has_no_place_leaves_nothing() {
    let scene = Scene::new();
    let mut demo = scene.command(&["demo", "--days", "8"]).stdout(Stdio::piped()).spawn().unwrap();
    // As `| head -0` does.
    drop(demo.stdout.take());
    let status = eventually("its end", || demo.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    scene.check_nothing_left("");

    let mut command = scene.command(&["demo"]);
    let ended = Process::start(command.env("TMPDIR", scene.current.path().join("none")), "demo".to_owned()).end();
    ended.check(1, &["no temporary folder can be made"]);
    for arguments in [["--days", "5"], ["--days", "47"], ["--seed", "x"]] {
        scene.start(&arguments).end().check(2, &[arguments[1]]);
    }
    scene.check_nothing_left("");
}
