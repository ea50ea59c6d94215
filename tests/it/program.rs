//! The program as a user runs it: a folder, a configuration, processes, what they print and how they end.
//!
//! Every process that a test starts is a child of the test, or of an `up` that is one. Guards end them: whatever a test
//! does, nothing of it runs when it is over. No wait is without a limit.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use overlay::config::Config;
use overlay::node::state_dir::{is_locked, local_address, local_pid};
use overlay::routing::NodeId;
use overlay_ingest::generate::{GenerateOptions, generate};
use overlay_ingest::progress::Silent;
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::{Dataset, DateRange, Layout};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything here takes on a slow machine: a test that reaches it has found something that hangs.
const LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// What the shipped configurations call their data set.
pub const NAME: &str = "2020-fire";
const CONFIG: &str = "overlay.json";
const STATE_DIR: &str = "state";

/// The project's folder, where the shipped configurations are.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Asks until there is an answer.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < LIMIT, "never came: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A folder to run in, with a configuration. Ends whatever still runs there.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// A copy of a shipped configuration with free ports and its data in the place itself, where there are none yet.
    pub fn new(shipped: &str) -> Place {
        Place::with(shipped, |_| ())
    }

    /// The same, changed.
    pub fn with(shipped: &str, change: impl FnOnce(&mut Value)) -> Place {
        let text = std::fs::read_to_string(project().join("configs").join(shipped)).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["dataset"]["root"] = json!("data-set");
        config["dataset"]["cache"] = json!("cache");
        config["state_dir"] = json!(STATE_DIR);
        for process in config["processes"].as_object_mut().unwrap().values_mut() {
            process["port"] = json!(0);
        }
        change(&mut config);
        let place = Place { folder: TempDir::new().unwrap() };
        place.configure(&config);
        place
    }

    /// The same, with a generated data set of days of both teams, ingested.
    pub fn with_data(shipped: &str) -> Place {
        Place::with_data_and(shipped, |_| ())
    }

    /// The same, changed.
    pub fn with_data_and(shipped: &str, change: impl FnOnce(&mut Value)) -> Place {
        let place = Place::with(shipped, change);
        place.generate();
        place.ingest();
        place
    }

    /// Makes the data set, and no cache of it.
    pub fn generate(&self) {
        generate(&self.data_set(), &GenerateOptions { sites: 40, ..GenerateOptions::default() }).unwrap();
    }

    /// Makes the cache of the generated data set, with small zones so that a day has several.
    pub fn ingest(&self) {
        let layout = Layout { zone_rows: 128 };
        let options = RunOptions { cache: self.path("cache"), range: DateRange::ALL, layout, force: false };
        run(&Dataset::open(self.data_set()).unwrap().named(NAME), &options, &Silent).unwrap();
    }

    /// Changes the configuration.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut config = serde_json::from_slice(&std::fs::read(self.path(CONFIG)).unwrap()).unwrap();
        change(&mut config);
        self.configure(&config);
    }

    /// Replaces the configuration.
    pub fn configure(&self, config: &Value) {
        std::fs::write(self.path(CONFIG), serde_json::to_vec_pretty(config).unwrap()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data_set(&self) -> PathBuf {
        self.path("data-set")
    }

    /// Starts the program.
    #[track_caller]
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(self.command(arguments).stdin(Stdio::null()), arguments.join(" "))
    }

    /// The program, to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overlay"));
        command.args(arguments).current_dir(self.folder.path()).env("OVERLAY_CONFIG", CONFIG);
        command
    }

    /// The program, to be started as `nohup` does it, which would also move its output to a file.
    pub fn command_without_hang_up(&self, argument: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP; exec \"$0\" \"$1\"", env!("CARGO_BIN_EXE_overlay"), argument]);
        command.current_dir(self.folder.path()).env("OVERLAY_CONFIG", CONFIG);
        command
    }

    /// Runs the program to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    /// Runs the program and checks how it ends, and that its stderr says some words. Gives its stdout.
    #[track_caller]
    pub fn check(&self, arguments: &[&str], code: i32, words: &[&str]) -> String {
        let ended = self.run(arguments);
        ended.check(code, words);
        ended.text()
    }

    /// Starts all processes of the configuration in the foreground, and waits until the overlay is complete.
    #[track_caller]
    pub fn up(&self, arguments: &[&str]) -> Process {
        let up = self.start(&[&["up"], arguments].concat());
        eventually("up is ready", || (up.text().contains("\nend: ") || up.has_ended()).then_some(()));
        assert!(!up.has_ended(), "{}", up.end());
        self.check_ready();
        up
    }

    /// Waits until the Leader says that the overlay is complete.
    #[track_caller]
    pub fn check_ready(&self) {
        eventually("the Leader has an address", || {
            let (state, fingerprint, _) = self.state();
            local_pid(&state, &fingerprint, &NodeId::from("A"))
        });
        self.check(&["status", "--wait", "60"], 0, &[]);
    }

    /// The process id that a node wrote.
    #[track_caller]
    pub fn pid(&self, id: &str) -> u32 {
        let (state, fingerprint, _) = self.state();
        local_pid(&state, &fingerprint, &NodeId::from(id)).unwrap_or_else(|| panic!("{id} does not run"))
    }

    /// Where a node listens, as it wrote.
    #[track_caller]
    pub fn address(&self, id: &str) -> String {
        let (state, fingerprint, _) = self.state();
        local_address(&state, &fingerprint, &NodeId::from(id)).unwrap_or_else(|| panic!("{id} does not run"))
    }

    /// Sends a node a signal.
    #[track_caller]
    pub fn signal(&self, id: &str, signal: Signal) {
        kill_process(pid(self.pid(id)), signal).unwrap();
    }

    /// Kills a node as a power cut would, and waits until it is gone.
    #[track_caller]
    pub fn kill(&self, id: &str) {
        self.signal(id, Signal::KILL);
        eventually("the killed node is gone", || (!self.running().contains(&id.to_owned())).then_some(()));
    }

    /// The nodes that run here: those whose folder is locked.
    pub fn running(&self) -> Vec<String> {
        let (state, fingerprint, ids) = self.state();
        let ids = ids.into_iter().filter(|id| is_locked(&state, &fingerprint, id));
        ids.map(|id| id.to_string()).collect()
    }

    fn state(&self) -> (PathBuf, String, Vec<NodeId>) {
        let config = Config::load(&self.path(CONFIG)).unwrap();
        let fingerprint = overlay::node::fingerprint(&config).to_string();
        (self.path(STATE_DIR), fingerprint, config.processes.keys().cloned().collect())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A configuration that a test broke on purpose started nothing.
        let Ok(config) = Config::load(&self.path(CONFIG)) else { return };
        let fingerprint = overlay::node::fingerprint(&config).to_string();
        let state = self.path(STATE_DIR);
        let start = Instant::now();
        for id in config.processes.keys() {
            // A locked folder has a living owner; one that only just starts writes its process id soon.
            while is_locked(&state, &fingerprint, id) && start.elapsed() < LIMIT {
                if let Some(owner) = local_pid(&state, &fingerprint, id) {
                    let _ = kill_process(pid(owner), Signal::KILL);
                }
                std::thread::sleep(POLL_INTERVAL);
            }
        }
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

/// A line of Linux's `/proc/PID/status`, such as `VmHWM`, the most memory the process ever had; in bytes.
pub fn memory(pid: u32, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = text.lines().find_map(|l| l.strip_prefix(line)).expect("a line of this name");
    value.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") << 10
}

/// A process that runs. Dropping it kills it.
pub struct Process {
    what: String,
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    started: Instant,
}

impl Process {
    /// Starts a command, which is called so where it fails.
    #[track_caller]
    pub fn start(command: &mut Command, what: String) -> Process {
        hears_hang_up(command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            read_all(child.stdout.take().expect("it is a pipe"), Arc::clone(&stdout)),
            read_all(child.stderr.take().expect("it is a pipe"), Arc::clone(&stderr)),
        ];
        Process { what, child, stdout, stderr, readers, started: Instant::now() }
    }

    /// What it printed so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().unwrap()).into_owned()
    }

    /// What it said on stderr so far.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// Whether it ended.
    pub fn has_ended(&self) -> bool {
        // Nobody but the process itself writes to its stdout.
        self.readers[0].is_finished()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to end, and waits until it has.
    #[track_caller]
    pub fn terminate(self) -> Ended {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let what = self.what.clone();
        let status = eventually(&format!("the end of `{what}`"), || self.child.try_wait().unwrap());
        let took = self.started.elapsed();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let take = |bytes: &Mutex<Vec<u8>>| std::mem::take(&mut *bytes.lock().unwrap());
        let errors = String::from_utf8_lossy(&take(&self.stderr)).into_owned();
        Ended { what, code: status.code(), stdout: take(&self.stdout), stderr: errors, took }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error here means that it ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    })
}

/// A process that ended.
#[derive(Debug)]
pub struct Ended {
    what: String,
    /// None if a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    /// Its stdout as text.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Checks how it ended, and that its stderr says some words.
    #[track_caller]
    pub fn check(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not said by {self}");
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ended { what, code, stdout, stderr, took } = self;
        let shown = String::from_utf8_lossy(&stdout[..stdout.len().min(2000)]);
        write!(f, "`overlay {what}`: code {code:?} after {took:?}, {} bytes: {shown}\n{stderr}", stdout.len())
    }
}

/// Lets a command hear SIGHUP even when the tests themselves were started by something like `nohup`, of which it would
/// inherit that it does not.
#[allow(unsafe_code)]
fn hears_hang_up(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        let heed = || {
            // SAFETY: takes numbers, may be called between fork and exec, and changes nothing of this process.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: the closure makes that one call, and allocates and locks nothing.
        unsafe { command.pre_exec(heed) };
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = command;
    }
}
