//! Child processes of the demo: the daemon and the real servers.
//!
//! **Invariant:** a child ends with its guard; unless it is to be kept it also ends with the demo's process, however
//! that ends (PR_SET_PDEATHSIG).
//!
//! Called by the stage and the director.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::state::{self, State};

/// A child that is ended on drop.
pub(super) struct Process {
    name: String,
    log: PathBuf,
    /// `None` once stopped or kept.
    child: Option<Child>,
}

impl Process {
    /// Starts a command, its messages going to a file of the demo's directory.
    pub fn spawn(mut command: Command, name: &str, state: &mut State, keep: bool) -> Result<Self> {
        let log = state::path(&format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        // Ctrl-C is for the demo, which then ends its children in order.
        command.process_group(0);
        if !keep {
            let end_with_parent = || Ok(set_pdeathsig(Signal::SIGTERM)?);
            // SAFETY: between fork and exec the closure makes one system call; it neither allocates nor takes a lock
            // (signal-safety(7)).
            unsafe { command.pre_exec(end_with_parent) };
        }
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let process = Self { name: name.to_owned(), log, child: Some(child) };
        if let Some(child) = &process.child {
            state.record(child.id())?;
        }
        Ok(process)
    }

    /// The child's standard output, once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.as_mut()?.stdout.take()
    }

    /// Fails with what the child said if it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        let ended = match &mut self.child {
            Some(child) => {
                child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?
            }
            None => None,
        };
        match ended {
            Some(status) => Err(self.failure(&format!("ended with {status}"))),
            None => Ok(()),
        }
    }

    /// An error with the last lines of the child's messages.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        anyhow::anyhow!("{} {what}{}", self.name, last_lines(&self.log))
    }

    /// Ends the child and waits for it.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if let Ok(pid) = i32::try_from(child.id()) {
            // A child that is gone already is what was wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        // Without effect on a child that has ended; `wait` then only collects it.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Gives the child up: it outlives the demo.
    pub fn keep(mut self) {
        self.child = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends processes that are not our children.
pub(super) fn terminate(pids: &[i32]) {
    let alive = |pid: &i32| Path::new(&format!("/proc/{pid}")).exists();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        for pid in pids.iter().filter(|pid| alive(pid)) {
            // One that ends by itself meanwhile is what was wanted.
            let _ = kill(Pid::from_raw(*pid), signal);
        }
        let deadline = Instant::now() + PATIENCE;
        while pids.iter().any(alive) && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default();
    last.iter().map(|line| format!("\n  {line}")).collect()
}

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at a process that is ending.
const PAUSE: Duration = Duration::from_millis(5);

/// Lines of a child's messages that an error repeats.
const SHOWN_LINES: usize = 12;
