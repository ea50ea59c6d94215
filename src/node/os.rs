//! The one file with calls that differ between operating systems.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Makes a command start in a group of its own, so that Ctrl-C at the terminal reaches only the parent, which then
/// ends the child in order.
pub fn in_own_group(command: &mut Command) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    #[cfg(windows)]
    {
        use std::os::windows::process::CommandExt;
        const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
        command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    }
}

/// Waits until the process is asked to end from outside: SIGTERM or Ctrl-C.
pub async fn asked_to_end() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    {
        tokio::signal::ctrl_c().await
    }
}

/// The same, or until the terminal is closed: for a program that has to leave nothing behind. Who started it with `nohup`
/// wants it to outlive the terminal, and it does.
pub async fn asked_to_end_or_hung_up() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        // To listen for a signal is to heed it, so this is asked first.
        if ignores_hang_up() {
            return asked_to_end().await;
        }
        let mut hung_up = signal(SignalKind::hangup())?;
        tokio::select! {
            asked = asked_to_end() => asked,
            _ = hung_up.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    {
        asked_to_end().await
    }
}

/// Whether this process was started with SIGHUP ignored, where the system tells: on Linux.
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal n is bit n - 1, and SIGHUP is the first.
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Whether a process may be alive: false only if it is known to be gone.
pub fn may_be_alive(pid: u32) -> bool {
    #[cfg(unix)]
    {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        // One of another user may not be asked, but is alive.
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    }
    #[cfg(not(unix))]
    {
        let _ = pid;
        true
    }
}

/// Ends a process by force. No error if it is gone.
pub fn kill(pid: u32) -> io::Result<()> {
    #[cfg(unix)]
    {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("not a process id"))?;
        match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(unix))]
    {
        Command::new("taskkill").args(["/F", "/PID", &pid.to_string()]).status().map(|_| ())
    }
}

/// The bytes of memory that a process has resident, where the system tells: on Linux.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The processor time that the threads of a process have taken which run now, to the microsecond, where the system tells:
/// on Linux. For what takes less than [`cpu_time`] can see.
pub fn threads_cpu_time(pid: u32) -> Option<Duration> {
    let of_thread = |thread: io::Result<std::fs::DirEntry>| -> Option<u64> {
        let told = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        told.split_whitespace().next()?.parse().ok()
    };
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    // One that ended since it was listed tells nothing any more.
    let nanoseconds: Vec<u64> = threads.filter_map(of_thread).collect();
    (!nanoseconds.is_empty()).then(|| Duration::from_nanos(nanoseconds.iter().sum()))
}

/// The processor time that a process has taken, all its threads together, where the system tells: on Linux, in steps
/// of 10 ms.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    cpu_time_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// What a thread took so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadUsage {
    /// Time on a core, to the microsecond.
    pub cpu: Duration,
    /// How often it waited for something, and not only for a core.
    pub waits: i64,
}

/// What the calling thread took so far, where the system tells: on Linux.
#[allow(unsafe_code)]
pub fn thread_usage() -> Option<ThreadUsage> {
    #[cfg(target_os = "linux")]
    {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the call writes one `rusage` to where it is told and keeps no pointer; zeroed, it is valid before as well.
        let usage = unsafe {
            if libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) != 0 {
                return None;
            }
            usage.assume_init()
        };
        let time = |of: libc::timeval| {
            let (seconds, micros) = (u64::try_from(of.tv_sec).ok()?, u64::try_from(of.tv_usec).ok()?);
            Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
        };
        Some(ThreadUsage { cpu: time(usage.ru_utime)? + time(usage.ru_stime)?, waits: usage.ru_nvcsw })
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}

/// What the calling thread computed since its start, to the nanosecond, where the system tells: on Linux.
#[allow(unsafe_code)]
pub fn thread_work() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one `timespec` to where it is told and keeps no pointer.
        let told = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
        (told == 0).then(|| Duration::new(seconds, nanos))
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}

fn cpu_time_of(stat: &str) -> Option<Duration> {
    // The name in brackets may hold anything; user and system time are the 12th and 13th field behind it, in
    // hundredths of a second on every Linux.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Duration::from_millis(10).checked_mul(user.checked_add(system)?)
}

/// Makes a folder, and those above it, that nobody but its owner may look into, where the system knows such a thing.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Opens a file to write at its end, and makes it if need be: one that nobody but its owner may read.
pub fn append_to_private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Which file an open file is, whatever it is called by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileIdentity {
    /// The device and the number on it.
    Known(u64, u64),
    /// This system does not tell.
    Unknown,
}

/// Tells an open file from others.
pub fn file_identity(file: &File) -> io::Result<FileIdentity> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = file.metadata()?;
        Ok(FileIdentity::Known(found.dev(), found.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(FileIdentity::Unknown)
    }
}

/// Bytes of a file system, of which `free` can be written by this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    pub free: u64,
    pub total: u64,
}

/// The file system that a path is on, which must exist; `None` where this system does not tell.
pub fn disk_space(path: &Path) -> io::Result<Option<DiskSpace>> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Some(DiskSpace { free: bytes(found.f_bavail), total: bytes(found.f_blocks) }))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(None)
    }
}

/// Gives memory that was freed back to the system, for the end of a burst of work. Does nothing where the program runs
/// with another allocator than ours.
#[allow(unsafe_code)]
pub fn give_back_memory() {
    // SAFETY: the function takes no pointer and may be called by any thread at any time; it frees only what nobody holds.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Asks for no huge pages from now on, for this process and those it starts. The allocator marks its arenas for them, and
/// on a virtual machine the first touch of one was measured to take 5 ms, four of them before a process had done
/// anything; what is gained later was not to be seen. Where the system refuses, it is as slow as before.
#[allow(unsafe_code)]
pub fn without_huge_pages() {
    #[cfg(target_os = "linux")]
    {
        let [yes, none]: [libc::c_ulong; 2] = [1, 0];
        // SAFETY: this option takes numbers only and changes nothing but how the kernel backs later page faults.
        let _refused = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, yes, none, none, none) };
    }
}

/// Asks the system to let the calling thread compute for so long, once it does, before it looks for others that want
/// the core as well. Between threads of equal rights this gives none more than another; but one that wakes up need not
/// wait for the end of a piece that is longer than its own: so threads that compute ask for long pieces, those that hand
/// on for short ones. Linux listens since 6.12, and takes from 0.1 to 100 ms; elsewhere nothing changes.
#[allow(unsafe_code)]
pub fn compute_in_pieces_of(length: Duration) {
    #[cfg(target_os = "linux")]
    {
        const SIZE: libc::c_uint = size_of::<libc::sched_attr>() as libc::c_uint;
        let (this_thread, no_flags) = (0, 0);
        let mut attributes = std::mem::MaybeUninit::<libc::sched_attr>::zeroed();
        // SAFETY: the first call writes at most `SIZE` bytes of numbers to where it is told, and zeroed they are valid
        // before as well; the second reads them. Both keep no pointer and change nothing but when this thread runs.
        unsafe {
            let at = attributes.as_mut_ptr();
            // Who was started with another policy or niceness keeps it. An older system refuses, and all is as it was.
            if libc::syscall(libc::SYS_sched_getattr, this_thread, at, SIZE, no_flags) == 0
                && [libc::SCHED_OTHER, libc::SCHED_BATCH].iter().any(|policy| *policy as u32 == (*at).sched_policy)
            {
                (*at).sched_runtime = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
                let _refused = libc::syscall(libc::SYS_sched_setattr, this_thread, at, no_flags);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = length;
    }
}

/// Lets the calling thread give way to the other threads that want its core, of this process and of others, by so many
/// steps of niceness: with each of them it gets a fifth less beside one that has none. Nothing is slower for it while
/// nobody else wants the core. On Linux only: elsewhere niceness is that of the whole process.
#[allow(unsafe_code)]
pub fn give_way(steps: i32) {
    #[cfg(target_os = "linux")]
    {
        const NICEST: libc::c_int = 19;
        let this_thread = 0;
        // SAFETY: numbers in, numbers out; nothing changes but when this thread runs. An error reads as a niceness of -1,
        // which is as good as none.
        unsafe {
            let now = libc::getpriority(libc::PRIO_PROCESS, this_thread);
            let _refused = libc::setpriority(libc::PRIO_PROCESS, this_thread, (now + steps).min(NICEST));
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = steps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_told_what_it_computed_and_that_it_waited() {
        let usage = || thread_usage().expect("Linux tells");
        let begun = usage();
        while usage().cpu < begun.cpu + Duration::from_millis(5) {}
        let waits = usage().waits;
        // Another thread that has to wake up to answer is waited for; not every time, if it has a core of its own.
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let (answer, answered) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || asked.iter().for_each(|()| answer.send(()).expect("it is awaited")));
        while usage().waits == waits {
            ask.send(()).expect("it listens");
            answered.recv().expect("it answers");
        }
        drop(ask);
        other.join().expect("it ends with its questions");
        let after = usage();
        assert!(after.waits > waits && after.cpu >= begun.cpu + Duration::from_millis(5), "{begun:?}, {after:?}");
    }

    #[cfg(target_os = "linux")]
    #[allow(unsafe_code)]
    #[test]
    fn a_thread_keeps_its_niceness_whatever_its_pieces() {
        // SAFETY: numbers in, numbers out; on Linux, process 0 is the calling thread.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        std::thread::spawn(move || {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) }, 0);
            compute_in_pieces_of(Duration::from_millis(1));
            assert_eq!(niceness(), 7);
            give_way(5);
            assert_eq!(niceness(), 12);
            give_way(50);
            compute_in_pieces_of(Duration::from_millis(20));
            assert_eq!(niceness(), 19);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a (strange) name) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 77 1 2";
        assert_eq!(cpu_time_of(stat), Some(Duration::from_secs(2)));
        for text in ["", "42 (name", "42 (name) S 1 2", "42 (name) S 1 2 3 4 5 6 7 8 9 10 x 50"] {
            assert_eq!(cpu_time_of(text), None, "{text:?}");
        }
    }
}
